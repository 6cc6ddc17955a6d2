/* A PKCS#11 module that is another one, FAULTS_MODULE, but for what FAULTS says, as in
 * "C_Login=a4 flags=40000": what a call is to return instead, in hexadecimal; flags that tokens
 * have besides; raw=1, no OCTET STRING around points; slow=3e8, microseconds that a signature takes,
 * when another one fails. FAULTS_LOG gets a line for each call. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef ulong (*function)();

enum { /* places in CK_FUNCTION_LIST */
	GET_FUNCTION_LIST = 3,
	GET_TOKEN_INFO = 6,
	OPEN_SESSION = 12,
	CLOSE_SESSION = 13,
	LOGIN = 18,
	LOGOUT = 19,
	GET_ATTRIBUTE_VALUE = 24,
	SIGN_INIT = 42,
	SIGN = 43,
	FUNCTIONS = 68
};

struct functions {
	unsigned char version[2];
	function call[FUNCTIONS];
};

struct attribute {
	ulong type;
	unsigned char *value;
	ulong length;
};

static struct functions ours;
static function *real;

static ulong said(const char *name)
{
	const char *faults = getenv("FAULTS");
	size_t length = strlen(name);

	for (; faults && *faults; faults += strcspn(faults, " "), faults += *faults == ' ')
		if (!strncmp(faults, name, length) && faults[length] == '=')
			return strtoul(faults + length + 1, NULL, 16);
	return 0;
}

static void note(const char *name, ulong argument)
{
	FILE *file = getenv("FAULTS_LOG") ? fopen(getenv("FAULTS_LOG"), "a") : NULL;

	if (file) {
		fprintf(file, "%s %lx\n", name, argument);
		fclose(file);
	}
}

static ulong get_token_info(ulong slot, unsigned char *info)
{
	ulong answer = real[GET_TOKEN_INFO](slot, info), flags;

	memcpy(&flags, info + 96, sizeof flags);
	flags |= said("flags");
	memcpy(info + 96, &flags, sizeof flags);
	return answer;
}

static ulong open_session(ulong slot, ulong flags, void *own, void *notify, ulong *session)
{
	ulong fault = said("C_OpenSession");

	note("C_OpenSession", flags);
	return fault ? fault : real[OPEN_SESSION](slot, flags, own, notify, session);
}

static ulong close_session(ulong session)
{
	note("C_CloseSession", 0);
	return real[CLOSE_SESSION](session);
}

static ulong login(ulong session, ulong user, unsigned char *pin, ulong length)
{
	ulong fault = said(user == 2 ? "context" : "C_Login");
	static unsigned char keyed[16];

	note("C_Login", user);
	if (!pin && getenv("FAULTS_KEYED")) { /* typed at the keys of the token itself */
		length = strlen(strcpy((char *)keyed, getenv("FAULTS_KEYED")));
		pin = keyed;
	}
	return fault ? fault : real[LOGIN](session, user, pin, length);
}

static ulong logout(ulong session)
{
	note("C_Logout", 0);
	return real[LOGOUT](session);
}

static ulong get_attribute_value(ulong session, ulong object, struct attribute *all, ulong count)
{
	ulong answer = real[GET_ATTRIBUTE_VALUE](session, object, all, count);

	for (ulong i = 0; said("raw") && i < count; i++)
		if (all[i].type == 0x181 && all[i].value) { /* CKA_EC_POINT */
			ulong header = all[i].value[1] < 0x80 ? 2 : 3;

			all[i].length -= header;
			memmove(all[i].value, all[i].value + header, all[i].length);
		}
	return answer;
}

static ulong sign_init(ulong session, ulong *mechanism, ulong key)
{
	ulong fault = said("C_SignInit");

	note("C_SignInit", mechanism[0]);
	return fault ? fault : real[SIGN_INIT](session, mechanism, key);
}

static ulong sign(ulong session, void *data, ulong length, void *signature, ulong *size)
{
	ulong fault = said("C_Sign"), slow = said("slow");
	static volatile int busy;

	note("C_Sign", length);
	if (slow && busy++)
		return 6; /* CKR_FUNCTION_FAILED */
	usleep(slow);
	if (!fault)
		fault = real[SIGN](session, data, length, signature, size);
	busy = 0;
	return fault;
}

ulong C_GetFunctionList(struct functions **list)
{
	void *module = dlopen(getenv("FAULTS_MODULE"), RTLD_NOW);
	function theirs = (function)dlsym(module, "C_GetFunctionList");
	struct functions *found;
	ulong answer = theirs(&found);

	if (answer)
		return answer;
	ours = *found;
	real = found->call;
	ours.call[GET_FUNCTION_LIST] = (function)C_GetFunctionList;
	ours.call[GET_TOKEN_INFO] = (function)get_token_info;
	ours.call[OPEN_SESSION] = (function)open_session;
	ours.call[CLOSE_SESSION] = (function)close_session;
	ours.call[LOGIN] = (function)login;
	ours.call[LOGOUT] = (function)logout;
	ours.call[GET_ATTRIBUTE_VALUE] = (function)get_attribute_value;
	ours.call[SIGN_INIT] = (function)sign_init;
	ours.call[SIGN] = (function)sign;
	*list = &ours;
	return 0;
}
