"""Opens many connections that each claim one huge frame and send hardly any of it.

    claims.py HOST PORT CONNECTIONS CLAIMED_BYTES

Prints one line when all are open, and holds them until its standard input ends.
"""

import resource
import socket
import struct
import sys


def main():
    host, port, connections, claimed = sys.argv[1], *map(int, sys.argv[2:5])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Produce, version 9, correlation 1: the beginning of an honest request of that size.
    beginning = struct.pack(">ihhi", claimed, 0, 9, 1)
    held = []
    for _ in range(connections):
        connection = socket.create_connection((host, port), timeout=30)
        try:
            connection.sendall(beginning)
        except OSError:
            pass  # closed at once: also a good answer
        held.append(connection)
    print("open", len(held), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
