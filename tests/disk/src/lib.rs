//! A disk whose syncs fail or take long, beneath a process that knows nothing of it.
//!
//! Loaded by `LD_PRELOAD`, this library has the names `fsync` and `fdatasync` before the C library has them. The variable
//! `HEIRLOOM_DISK` names a file that is read again at each sync; it says one of
//!
//! | what it says | what that means |
//! |---|---|
//! | `fail-once FOLDER` | the next sync of a file below the folder, or of the folder, fails with `EIO`; the order is removed |
//! | `slow MILLIS FOLDER` | each takes so much longer, or until the file says something else |
//!
//! Without the variable or the file, and by whatever else it says, syncs are what they are. What a failed sync leaves
//! behind is not simulated: the bytes stay in the page cache, and may reach the disk. A file system that forgets them is
//! `PowerFailureFiles` of the server.
#![cfg(target_os = "linux")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, mem, ptr};

/// The same on every architecture that Linux runs on.
const EIO: c_int = 5;

/// How often a slow sync looks whether it still is one.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    FailOnce(PathBuf),
    Slow(Duration, PathBuf),
}

impl Order {
    fn read(control: &Path) -> Option<Self> {
        let text = fs::read_to_string(control).ok()?;
        let (verb, rest) = text.trim_end().split_once(' ')?;
        match verb {
            "fail-once" => Some(Self::FailOnce(rest.into())),
            "slow" => {
                let (millis, folder) = rest.split_once(' ')?;
                Some(Self::Slow(Duration::from_millis(millis.parse().ok()?), folder.into()))
            }
            _ => None,
        }
    }

    fn folder(&self) -> &Path {
        match self {
            Self::FailOnce(folder) | Self::Slow(_, folder) => folder,
        }
    }
}

/// Whether a sync of this descriptor is to fail; where it is to be slow, it has been when this answers.
fn fails(descriptor: c_int) -> bool {
    let Some(control) = std::env::var_os("HEIRLOOM_DISK").map(PathBuf::from) else { return false };
    let concerns = |order: &Order| {
        let file = fs::read_link(format!("/proc/self/fd/{descriptor}"));
        file.is_ok_and(|file| file.starts_with(order.folder()))
    };
    let order = || Order::read(&control).filter(concerns);
    match order() {
        None => false,
        // Of several threads that come this far one removes it.
        Some(Order::FailOnce(_)) => fs::remove_file(&control).is_ok(),
        Some(slow @ Order::Slow(span, _)) => {
            let begun = Instant::now();
            while begun.elapsed() < span && order().as_ref() == Some(&slow) {
                sleep(LOOK_PAUSE);
            }
            false
        }
    }
}

/// What `fsync` and `fdatasync` are.
type Sync = unsafe extern "C" fn(c_int) -> c_int;

// SAFETY: as the C library declares them.
#[expect(unsafe_code, reason = "the C library's interface")]
unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// Does what the file says, and then what was asked for.
#[expect(unsafe_code, reason = "the C library's interface")]
fn steered(descriptor: c_int, name: &CStr) -> c_int {
    /// `RTLD_NEXT`: the library behind this one.
    const NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
    if fails(descriptor) {
        // SAFETY: the C library gives the address of this thread's errno, which is valid as long as the thread is.
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // SAFETY: the name ends with a zero, which is all that `dlsym` asks for.
    let next = unsafe { dlsym(NEXT, name.as_ptr()) };
    // SAFETY: what has one of these two names behind this library is the C library's, or another that stands in for it; null,
    // which there is none of, is `None`.
    let next = unsafe { mem::transmute::<*mut c_void, Option<Sync>>(next) };
    // SAFETY: it takes any number, and answers one that is no descriptor with an error.
    next.map_or(-1, |next| unsafe { next(descriptor) })
}

/// As the C library has it.
// SAFETY: the name is taken from the C library on purpose; parameters, result and errno are those of fsync(2).
#[expect(unsafe_code, reason = "a name that has to be the C library's")]
#[unsafe(no_mangle)]
pub extern "C" fn fsync(descriptor: c_int) -> c_int {
    steered(descriptor, c"fsync")
}

/// As the C library has it.
// SAFETY: as for `fsync`.
#[expect(unsafe_code, reason = "a name that has to be the C library's")]
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    steered(descriptor, c"fdatasync")
}
