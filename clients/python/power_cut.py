"""Cuts the power of one mounted ext4 file system.

    power_cut.py MOUNT SEED

First it pushes random ranges of random files to the disk, because delayed allocation otherwise
loses an unsynced tail only as a whole; then EXT4_IOC_SHUTDOWN without flushing the journal: from
that call on nothing of what only memory holds reaches the disk.
"""

import ctypes
import fcntl
import os
import random
import stat
import struct
import sys

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
SYNC_AND_WAIT = 1 | 2 | 4  # WAIT_BEFORE | WRITE | WAIT_AFTER
BLOCK = 4096


def sync_some_ranges(mount, dice):
    libc = ctypes.CDLL(None, use_errno=True)
    sync_file_range = libc.sync_file_range
    sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    for folder, _, names in os.walk(mount):
        for name in sorted(names):
            if dice.random() < 0.5:
                continue
            try:
                handle = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue  # deleted by the server meanwhile
            try:
                status = os.fstat(handle)
                blocks = status.st_size // BLOCK
                if stat.S_ISREG(status.st_mode) and blocks > 0:
                    first = dice.randrange(blocks)
                    count = dice.randrange(1, blocks - first + 1)
                    sync_file_range(handle, first * BLOCK, count * BLOCK, SYNC_AND_WAIT)
            finally:
                os.close(handle)


def main():
    mount, seed = sys.argv[1], int(sys.argv[2])
    handle = os.open(mount, os.O_RDONLY)
    sync_some_ranges(mount, random.Random(seed))
    fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(handle)


if __name__ == "__main__":
    main()
