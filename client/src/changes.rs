//! What a client changes: single keys, under a condition or none, appended values, and sets that take effect as one.

use bytes::Bytes;
use heirloom_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::request::{APPEND_DIGITS, append_key};
use heirloom_proto::{Change, Condition, KeyChange, Response, Together, Version};
use heirloom_session::{Answer, Operation};

use crate::answer::{Appended, Changed, Conditional, NotMet};
use crate::client::{Asked, Client, checked};
use crate::error::{BadInput, Error};

/// Changes of several keys that take effect as one, at one version, or not at all; and the conditions for it.
///
/// ```no_run
/// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
/// use heirloom::{ChangeSet, Conditional};
///
/// let Some(from) = client.read("account/1").await? else { return Ok(()) };
/// let set = ChangeSet::new().if_version("account/1", from.version).add("account/1", "90").add("account/2", "10");
/// match client.change_set(set).await? {
///     Conditional::Done(changed) => println!("both changed, as version {}", changed.version),
///     Conditional::NotMet(why) => println!("neither changed: account/1 is at {:?}", why.found),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    set: Together,
}

impl Default for ChangeSet {
    fn default() -> Self {
        Self { set: Together { conditions: Vec::new(), changes: Vec::new() } }
    }
}

impl ChangeSet {
    /// A set without changes yet; it needs one at least.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key or replaces its value, with the others.
    #[must_use]
    pub fn add(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.change(key.as_ref(), Some(value.into()))
    }

    /// Deletes a key, with the others; one that has no value is no error.
    #[must_use]
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.change(key.as_ref(), None)
    }

    /// Nothing is changed unless this key has no value. It need not be one that the set changes.
    #[must_use]
    pub fn if_absent(self, key: impl AsRef<[u8]>) -> Self {
        self.condition(key.as_ref(), None)
    }

    /// Nothing is changed unless this is the version of the key's last change. It need not be one that the set changes.
    #[must_use]
    pub fn if_version(self, key: impl AsRef<[u8]>, version: Version) -> Self {
        self.condition(key.as_ref(), Some(version))
    }

    fn change(mut self, key: &[u8], value: Option<Bytes>) -> Self {
        self.set.changes.push(KeyChange { key: Bytes::copy_from_slice(key), value });
        self
    }

    fn condition(mut self, key: &[u8], version: Option<Version>) -> Self {
        self.set.conditions.push(Condition { key: Bytes::copy_from_slice(key), version });
        self
    }

    /// What no server would take is never sent.
    fn checked(self) -> Result<Together, BadInput> {
        let set = &self.set;
        if !set.is_well_made() {
            return Err(BadInput::Set { changes: set.changes.len(), conditions: set.conditions.len() });
        }
        for key in set.keys() {
            checked(key)?;
        }
        check_value(set.value_bytes())?;
        Ok(self.set)
    }
}

impl Client {
    /// Adds a key or replaces its value.
    ///
    /// **Errors:** [`Error::Unknown`] where the change may have been carried out, [`Error::NotApplied`] where it certainly
    /// was not and will not be, [`Error::BadInput`] where key or value are out of bounds.
    pub async fn add(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Changed, Error> {
        let (key, value) = (checked(key.as_ref())?, value.into());
        check_value(value.len())?;
        let asked = Asked { verb: "add", key: key.clone(), is_change: true };
        let answer = self.call(&asked, Operation::Change(Change::Add { key, value })).await?;
        self.changed(&asked, &answer)
    }

    /// Adds a key that has no value; one that has is left as it is.
    ///
    /// ```no_run
    /// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
    /// match client.add_if_absent("lock", "mine").await? {
    ///     heirloom::Conditional::Done(added) => println!("it is ours since version {}", added.version),
    ///     heirloom::Conditional::NotMet(why) => println!("somebody took it: {:?}", why.found),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// **Errors:** as [`Client::add`].
    pub async fn add_if_absent(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Conditional, Error> {
        let key = key.as_ref();
        self.together("add", key, ChangeSet::new().if_absent(key).add(key, value)).await
    }

    /// Replaces the value of a key whose last change is of this version (compare and set).
    ///
    /// ```no_run
    /// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
    /// if let Some(entry) = client.read("count").await? {
    ///     let next = [&entry.value[..], b"|"].concat();
    ///     let done = client.add_if_version("count", next, entry.version).await?;
    ///     println!("nobody changed it meanwhile: {}", done.changed().is_some());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// **Errors:** as [`Client::add`].
    pub async fn add_if_version(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        version: Version,
    ) -> Result<Conditional, Error> {
        let key = key.as_ref();
        self.together("add", key, ChangeSet::new().if_version(key, version).add(key, value)).await
    }

    /// Deletes a key. One that has no value is no error: [`Changed::existed`] says so.
    ///
    /// **Errors:** as [`Client::add`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Changed, Error> {
        let key = checked(key.as_ref())?;
        let asked = Asked { verb: "delete", key: key.clone(), is_change: true };
        let answer = self.call(&asked, Operation::Change(Change::Delete { key })).await?;
        self.changed(&asked, &answer)
    }

    /// Deletes a key whose last change is of this version.
    ///
    /// **Errors:** as [`Client::add`].
    pub async fn delete_if_version(&self, key: impl AsRef<[u8]>, version: Version) -> Result<Conditional, Error> {
        let key = key.as_ref();
        self.together("delete", key, ChangeSet::new().if_version(key, version).delete(key)).await
    }

    /// Adds a value under a key that the primary makes: the prefix and the next number, in 20 digits. Numbers have no gap
    /// and no repeat, whoever appends, and are not used again when keys are deleted. A number whose key somebody has added
    /// by its name is passed over.
    ///
    /// ```no_run
    /// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
    /// let appended = client.append("log/", "it began").await?;
    /// println!("number {} under {:?}", appended.number, appended.key);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// **Errors:** as [`Client::add`].
    pub async fn append(&self, prefix: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Appended, Error> {
        let (prefix, value) = (Bytes::copy_from_slice(prefix.as_ref()), value.into());
        if prefix.len() > KEY_BYTES_MAX - APPEND_DIGITS {
            return Err(BadInput::Prefix { bytes: prefix.len() }.into());
        }
        check_value(value.len())?;
        let asked = Asked { verb: "append to", key: prefix.clone(), is_change: true };
        let change = Change::Append { prefix: prefix.clone(), value };
        let answer = self.call(&asked, Operation::Change(change)).await?;
        match answer.response {
            Response::Appended { number, version, copies, epoch } => {
                let server = answer.server.unwrap_or(epoch.server);
                Ok(Appended { key: append_key(&prefix, number), number, version, copies, server, epoch })
            }
            _ => Err(self.nonsense(&asked)),
        }
    }

    /// Carries out all changes of a set, or none of them.
    ///
    /// **Errors:** as [`Client::add`]; [`BadInput::Set`] where the set is empty, too large, or changes a key twice. All its
    /// values together may be as long as one.
    pub async fn change_set(&self, set: ChangeSet) -> Result<Conditional, Error> {
        self.together("change set", b"", set).await
    }

    async fn together(&self, verb: &'static str, key: &[u8], set: ChangeSet) -> Result<Conditional, Error> {
        let set = set.checked()?;
        let asked = Asked { verb, key: Bytes::copy_from_slice(key), is_change: true };
        let answer = self.call(&asked, Operation::Change(Change::Together(Box::new(set)))).await?;
        match answer.response {
            Response::NotMet { condition, found, version, epoch } => {
                let condition = usize::try_from(condition).expect("at least 32 bits");
                let server = answer.server.unwrap_or(epoch.server);
                Ok(Conditional::NotMet(NotMet { condition, found, version, server, epoch }))
            }
            _ => self.changed(&asked, &answer).map(Conditional::Done),
        }
    }

    fn changed(&self, asked: &Asked, answer: &Answer) -> Result<Changed, Error> {
        match answer.response {
            Response::Changed { version, existed, copies, epoch } => {
                Ok(Changed { version, existed, copies, server: answer.server.unwrap_or(epoch.server), epoch })
            }
            Response::SessionOpened { .. }
            | Response::SessionClosed
            | Response::Appended { .. }
            | Response::NotMet { .. }
            | Response::Found { .. }
            | Response::NotFound { .. }
            | Response::Scanned { .. }
            | Response::Promoted { .. }
            | Response::Fenced => Err(self.nonsense(asked)),
        }
    }
}

fn check_value(bytes: usize) -> Result<(), BadInput> {
    if bytes > VALUE_BYTES_MAX_MAX { Err(BadInput::Value { bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_no_server_would_take_is_never_sent() {
        let bad = |set: ChangeSet| set.checked().expect_err("refused");
        assert_eq!(bad(ChangeSet::new().if_absent("k")), BadInput::Set { changes: 0, conditions: 1 });
        assert_eq!(bad(ChangeSet::new().add("k", "v").delete("k")), BadInput::Set { changes: 2, conditions: 0 });
        assert_eq!(bad(ChangeSet::new().add("k", "v").if_absent("")), BadInput::Key { bytes: 0 });
        let half = vec![0; VALUE_BYTES_MAX_MAX / 2 + 1];
        let large = ChangeSet::new().add("a", half.clone()).add("b", half);
        assert_eq!(bad(large), BadInput::Value { bytes: VALUE_BYTES_MAX_MAX + 2 });
        let good = ChangeSet::new().add("a", "v").delete("b").if_absent("a").if_version("c", Version(3));
        assert_eq!(good.checked().map(|set| (set.changes.len(), set.conditions.len())), Ok((2, 2)));
    }
}
