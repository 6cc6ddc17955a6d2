"""A server that never falls silent and never ends."""

import contextlib
import socket
import threading
import time

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
# what it sends first, and then again and again
DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (JSON + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunks": (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers": (JSON + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
}


@contextlib.contextmanager
def slow_server(first, again, pause=0.05):
    """Yields HOST:PORT; the connections that are open at the end are closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections, ended = [], threading.Event()

    def answer(connection):
        with contextlib.suppress(OSError), connection:
            connection.recv(1 << 16)
            connection.sendall(first)
            while not ended.is_set() and again:
                connection.sendall(again)
                time.sleep(pause)
            if not again:
                ended.wait()

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(threading.Thread(target=answer, args=(connection,)))
                connections[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for one in connections:
            one.join()
