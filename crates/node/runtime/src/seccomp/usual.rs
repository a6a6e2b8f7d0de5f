//! What a container may call when nobody says otherwise: the list that container runtimes share, given the container's
//! capabilities.

use super::{Action, Argument, Operator, Profile, Rule};
use crate::capability::has;

/// Calls that need no capability, or check one themselves.
const ALWAYS: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown clock_adjtime \
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake \
    futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid \
    getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit get_robust_list getrusage \
    getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents \
    io_pgetevents ioprio_get ioprio_set io_setup io_submit kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr listxattrat llistxattr \
    lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore \
    mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe \
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam \
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
    sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid \
    setresgid setresuid setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address \
    setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair \
    splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime \
    timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe utime utimensat utimes vfork \
    vmsplice wait4 waitid write writev arch_prctl modify_ldt";

/// Calls that come with a capability.
const WITH_CAPABILITY: [(&str, &str); 11] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    (
        "SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    ),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday clock_settime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    (
        "SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
];

/// More of the same, by capabilities that upstream added later.
const WITH_LATER_CAPABILITY: [(&str, &str); 3] = [
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Every flag of `clone` that makes a namespace.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Execution domains that programs ask for: Linux, 32 bits, no randomisation of either, and "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile for a process that has `capabilities`.
pub(super) fn profile(capabilities: u64) -> Profile {
    let mut rules = vec![Rule::plain(ALWAYS, Action::Allow)];
    for (name, calls) in WITH_CAPABILITY.iter().chain(&WITH_LATER_CAPABILITY) {
        if has(capabilities, name) {
            rules.push(Rule::plain(calls, Action::Allow));
        }
    }
    rules.extend(PERSONALITIES.map(|value| {
        Rule::with(
            "personality",
            Action::Allow,
            Argument {
                index: 0,
                operator: Operator::Equal,
                value,
                other: 0,
            },
        )
    }));
    // The kernel looks at the low half of the number only, so the filter does too.
    let vsock = Argument {
        index: 0,
        operator: Operator::MaskedEqual,
        value: 0xffff_ffff,
        other: libc::AF_VSOCK as u64,
    };
    rules.push(Rule::with("socket", Action::Errno(libc::EPERM as u16), vsock));
    rules.push(Rule::plain("socket", Action::Allow));
    if !has(capabilities, "SYS_ADMIN") {
        let none = Argument {
            index: 0,
            operator: Operator::MaskedEqual,
            value: NEW_NAMESPACES,
            other: 0,
        };
        rules.push(Rule::with("clone", Action::Allow, none));
        // The flags lie behind a pointer that no filter can follow. "No such call" makes libc use clone.
        rules.push(Rule::plain("clone3", Action::Errno(libc::ENOSYS as u16)));
    }
    Profile {
        default: Action::Errno(libc::EPERM as u16),
        rules,
    }
}
