"""Starts a program as systemd does for a socket unit: `passed_sockets.py PORT COUNT COMMAND…`.

Opens COUNT listening sockets on 127.0.0.1:PORT (SO_REUSEPORT, so that a test can hold the port meanwhile) as
descriptors from 3 upwards, and becomes the command. Standard library only.
"""

import os
import socket
import sys

FIRST_FD = 3


def main() -> None:
    port, count, *command = sys.argv[1:]
    opened = []
    for _ in range(int(count)):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", int(port)))
        listening.listen()
        opened.append(listening)
    high = [os.dup2(each.fileno(), 200 + index) for index, each in enumerate(opened)]
    for index, fd in enumerate(high):
        os.dup2(fd, FIRST_FD + index)
        os.close(fd)
    names = ":".join(f"name-{index}" for index in range(len(high)))
    environ = {**os.environ, "LISTEN_FDS": count, "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
    os.execve(command[0], command, environ)


if __name__ == "__main__":
    main()
