//! Hearing what a failed assertion of the core says (law 12), instead of letting it end the search.

use std::cell::RefCell;
use std::panic::UnwindSafe;
use std::sync::Once;

thread_local! {
    /// What a panic of this thread said, while somebody listens.
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Does something in which an assertion may fail.
///
/// **Errors:** what the assertion said, and where.
pub fn listen(action: impl FnOnce() + UnwindSafe) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let heard = PANIC.with_borrow_mut(|panic| match panic {
                Some(what) => {
                    *what = Some(info.to_string());
                    true
                }
                None => false,
            });
            if !heard {
                before(info);
            }
        }));
    });
    PANIC.set(Some(None));
    let outcome = std::panic::catch_unwind(action);
    let said = PANIC.take().flatten();
    outcome.map_err(|_| said.unwrap_or_else(|| "a panic without a word".to_owned()))
}
