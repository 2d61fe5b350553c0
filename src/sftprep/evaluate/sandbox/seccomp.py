"""A system-call filter in classic BPF: the calls a pure computation never needs are refused.

Numbers: Linux `asm/unistd_64.h` (x86_64) and `asm-generic/unistd.h` (aarch64). Standard library
only: this file is loaded inside the sandbox, where nothing else of the package exists.
"""

import ctypes
import errno
import os
import struct

# name: (x86_64, aarch64); None: the architecture has no such call.
# fmt: off
DENIED: dict[str, tuple[int | None, int | None]] = {
    # starting another program or process
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    # talking to the network or to other processes
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206),
    "sendmsg": (46, 211),
    # reading or steering other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # mounts, namespaces and changed roots
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    # kernel subsystems with a large attack surface
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89),
    "personality": (135, 92), "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    "lookup_dcookie": (212, 18), "sethostname": (170, 161), "setdomainname": (171, 162),
    "vhangup": (153, 58), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    # metadata of files, which Landlock does not guard
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # names and sizes of files, a second time after Landlock
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mknod": (133, None), "mknodat": (259, 33), "truncate": (76, 45), "ftruncate": (77, 46),
    "fallocate": (285, 47),
    # memory and queues that outlive the process
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
    "mbind": (237, 235), "set_mempolicy": (238, 237),
    # identity, and leaving the process group
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159),
    "setfsuid": (122, 151), "setfsgid": (123, 152), "capset": (126, 91), "setpgid": (109, 154),
    "setsid": (112, 157),
}
# fmt: on
CLONE = (56, 220)
CLONE3 = (435, 435)
IOCTL = (16, 29)
PRLIMIT64 = (302, 261)
YOUNGER_THAN_TABLE = 450
"""Calls from this number on (bar those listed) are answered with ENOSYS, as an old kernel would."""
CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020080
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET,TIME}: namespaces."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
X32_BIT = 0x40000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def supported() -> bool:
    """True on the two architectures whose call numbers are in the table."""
    return os.uname().machine in _AUDIT_ARCH


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int, code: int = errno.EPERM) -> bytes:
    return _op(_EQUAL, number, 0, 1) + _op(_RETURN, _ERRNO | code)


def build_filter(machine: str) -> bytes:
    """The filter program for `x86_64` or `aarch64`, as an array of `struct sock_filter`."""
    column = 0 if machine == "x86_64" else 1
    allow, eperm = _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | errno.EPERM)
    program = _op(_LOAD, _ARCH) + _op(_EQUAL, _AUDIT_ARCH[machine], 1, 0) + _op(_RETURN, _KILL)
    program += _op(_LOAD, _NR)
    if machine == "x86_64":
        program += _op(_AT_LEAST, X32_BIT, 0, 1) + _op(_RETURN, _KILL)
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            program += _refuse(number)
    program += _refuse(CLONE3[column], errno.ENOSYS)
    program += _op(_AT_LEAST, YOUNGER_THAN_TABLE, 0, 1) + _op(_RETURN, _ERRNO | errno.ENOSYS)
    # A thread is fine, a process or a namespace is not.
    program += _op(_EQUAL, CLONE[column], 0, 6) + _op(_LOAD, _ARG0)
    program += _op(_ANY_BIT, CLONE_NEW, 0, 1) + eperm
    program += _op(_ANY_BIT, CLONE_THREAD, 1, 0) + eperm + allow
    # Typing into the terminal of the user.
    program += _op(_EQUAL, IOCTL[column], 0, 6) + _op(_LOAD, _ARG1)
    program += _op(_EQUAL, TIOCSTI, 0, 1) + eperm + _op(_EQUAL, TIOCLINUX, 0, 1) + eperm + allow
    # Limits of other processes (process id 0 is the caller itself).
    program += _op(_EQUAL, PRLIMIT64[column], 0, 3) + _op(_LOAD, _ARG0)
    return program + _op(_EQUAL, 0, 1, 0) + eperm + allow


def restrict() -> None:
    """Load the filter into this process, for good. `no_new_privs` must be set already.

    Raises:
        OSError: the kernel refuses (no seccomp, or another architecture).
    """
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no system-call table for {machine}")
    program = build_filter(machine)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    holder = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(holder), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
