//! What the simulated cluster takes for the machine: its clock and its dice.
//!
//! Wall-clock times, uids, generated names, the seeds of hash maps and of tokio's fairness come from the C library in the
//! end. This program puts its own `clock_gettime`, `getrandom` and `syscall` in the C library's place (the link is
//! static, and a program's symbol goes before a library's), so nothing in the product has to know of simulations. Before
//! [`take_over`] they do what the C library does. One process simulates one seed: what is taken over stays so.

#![allow(
    unsafe_code,
    reason = "symbols of the C library can only be replaced by functions with its signatures"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// 2026-01-01T00:00:00Z: when every simulation begins.
const EPOCH_SECONDS: i64 = 1_767_225_600;
/// The monotonic clock begins with some time behind it, as on a machine that has been up.
const UPTIME_SECONDS: i64 = 1_000;

static TAKEN_OVER: AtomicBool = AtomicBool::new(false);
static SEED: AtomicU64 = AtomicU64::new(0);
static ELAPSED_NANOS: AtomicI64 = AtomicI64::new(0);
/// How far the wall clock was set forward (or back).
static JUMP_NANOS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Each thread draws its own numbers, so that threads cannot disturb each other's.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// From now on time stands still at the epoch and chance follows from the seed.
pub(crate) fn take_over(seed: u64) {
    SEED.store(seed, Ordering::SeqCst);
    TAKEN_OVER.store(true, Ordering::SeqCst);
}

/// Tells how far the simulation's own clock is.
pub(crate) fn set_elapsed(elapsed: Duration) {
    let nanos = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
    ELAPSED_NANOS.store(nanos, Ordering::SeqCst);
}

/// Since the beginning, by the simulation's clock.
pub(crate) fn elapsed() -> Duration {
    Duration::from_nanos(u64::try_from(ELAPSED_NANOS.load(Ordering::SeqCst)).unwrap_or_default())
}

/// Sets the wall clock forward or back, as an administrator or a time server does.
pub(crate) fn jump(seconds: i64) {
    JUMP_NANOS.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
}

fn is_taken_over() -> bool {
    TAKEN_OVER.load(Ordering::SeqCst)
}

/// Fills the buffer with what the seed says comes next in this thread.
fn draw(buffer: &mut [u8]) {
    let seed = SEED.load(Ordering::SeqCst);
    for chunk in buffer.chunks_mut(8) {
        let number = DRAWN.get() + 1;
        DRAWN.set(number);
        let bytes = crate::dice::mix(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// Takes the place of the C library's.
///
/// # Safety
/// As of `clock_gettime(3)`: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if !is_taken_over() || time.is_null() {
        // SAFETY: the kernel's own call, with the caller's arguments.
        return unsafe { syscall(libc::SYS_clock_gettime, clock.into(), time as c_long, 0, 0, 0, 0) }
            as c_int;
    }
    let elapsed = ELAPSED_NANOS.load(Ordering::SeqCst);
    let is_wall_clock = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let (base, jump) = if is_wall_clock {
        (EPOCH_SECONDS, JUMP_NANOS.load(Ordering::SeqCst))
    } else {
        (UPTIME_SECONDS, 0)
    };
    let nanos = elapsed + jump;
    let now = timespec {
        tv_sec: base + nanos.div_euclid(1_000_000_000),
        tv_nsec: nanos.rem_euclid(1_000_000_000),
    };
    // SAFETY: the caller vouches for the pointer, which is not null.
    unsafe { time.write(now) };
    0
}

/// Takes the place of the C library's.
///
/// # Safety
/// As of `getrandom(2)`: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    // SAFETY: the same arguments under the same conditions.
    let filled = unsafe {
        syscall(
            libc::SYS_getrandom,
            buffer as c_long,
            length as c_long,
            c_long::from(flags),
            0,
            0,
            0,
        )
    };
    filled as ssize_t
}

/// Takes the place of the C library's, which programs call for what it has no function for. The C declaration is
/// variadic; whoever passes fewer arguments leaves the others undefined, and the kernel does not look at them.
///
/// # Safety
/// As of the system call asked for.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    first: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    if number == libc::SYS_getrandom && is_taken_over() {
        if first != 0 && second > 0 {
            // SAFETY: the caller vouches for so many writable bytes there.
            draw(unsafe { std::slice::from_raw_parts_mut(first as *mut u8, second as usize) });
        }
        return second;
    }
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { enter_kernel(number, [first, second, third, fourth, fifth, sixth]) };
    if (-4095..0).contains(&result) {
        // SAFETY: the C library's address of this thread's errno.
        unsafe { *libc::__errno_location() = -result as c_int };
        return -1;
    }
    result
}

#[cfg(target_arch = "x86_64")]
unsafe fn enter_kernel(number: c_long, arguments: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's convention on x86-64; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn enter_kernel(number: c_long, arguments: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's convention on 64-bit Arm; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1], in("x2") arguments[2],
            in("x3") arguments[3], in("x4") arguments[4], in("x5") arguments[5],
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    #[test]
    fn before_the_takeover_the_machine_is_itself() {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(since.as_secs() > 1_700_000_000);
        let path = std::env::temp_dir();
        assert!(std::fs::metadata(path).is_ok());
    }
}
