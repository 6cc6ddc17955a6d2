/* SPDX-License-Identifier: Apache-2.0
 *
 * init.c: the only process of the machine that bochs.sh boots. Runs the C core's test, built with
 * its main named test_main, says how it ended and switches Bochs off.
 */
#include <stdio.h>
#include <sys/io.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int test_main(void);

int main(void)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        return test_main();
    waitpid(child, &status, 0);
    printf("test_core ended with status %d\n", status);
    fflush(stdout);
    tcdrain(1);
    if (!ioperm(0x8900, 1, 1))
        for (const char *p = "Shutdown"; *p; p++) /* Bochs listens there for this word */
            outb((unsigned char)*p, 0x8900);
    for (;;)
        pause();
}
