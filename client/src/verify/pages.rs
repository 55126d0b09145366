//! The keys of one server at one version, page by page, as that server alone has them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::wire::client::{Answered, response_from_wire};
use heirloom_proto::wire::refusal::{Refused, refusal_from_status};
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use heirloom_proto::wire::v1::{ScanRequest, ScanResponse, session_response};
use heirloom_proto::{Address, Refusal, Response, Scanned, ServerId, Version};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;

use super::keys::At;
use crate::transport;

/// The pause before a server that could not answer is asked again. It has waited for the version itself, for a heartbeat.
const PAUSE: Duration = Duration::from_millis(20);

/// A part of a server's keys.
pub(super) struct Page {
    /// In their order.
    pub(super) entries: VecDeque<Scanned>,
    /// Where the next page begins; `None` where this is the last.
    pub(super) next: Option<Bytes>,
}

/// Why a server gives no more pages.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It no longer keeps what keys had at the version.
    TooOld {
        /// How far back it goes.
        oldest: Version,
    },
    /// For people.
    Lost(String),
}

/// Why a question was not answered.
enum Unanswered {
    /// It may be, asked again.
    Yet(String),
    /// It never will be.
    Ever(Trouble),
}

/// A server that is asked for its keys.
pub(super) struct Pages {
    server: ServerId,
    address: Address,
    at: At,
    timeout: Duration,
    dictionary: Option<DictionaryClient<Channel>>,
}

impl Pages {
    /// What `server`, which is at `address`, has at that version; each page may take this long.
    pub(super) fn new(server: ServerId, address: Address, at: At, timeout: Duration) -> Self {
        Self { server, address, at, timeout, dictionary: None }
    }

    /// Fetches page after page, one ahead of whoever takes them, until the last, or the first that can't be had.
    pub(super) async fn fetch_all(mut self, pages: mpsc::Sender<Result<Page, Trouble>>) {
        let mut start = Some(Bytes::new());
        while let Some(from) = start {
            let page = self.page(&from).await;
            start = page.as_ref().ok().and_then(|page| page.next.clone());
            if pages.send(page).await.is_err() {
                return;
            }
        }
    }

    /// One page. A server that has not come to the version, or that was restarted, is asked again until the time is up.
    async fn page(&mut self, start: &Bytes) -> Result<Page, Trouble> {
        let deadline = Instant::now() + self.timeout;
        let mut why = None;
        loop {
            match timeout_at(deadline, self.ask(start, deadline)).await {
                Ok(Ok(page)) => return Ok(page),
                Ok(Err(Unanswered::Ever(trouble))) => return Err(trouble),
                Ok(Err(Unanswered::Yet(now))) => why = Some(now),
                // What it said before, if it did, tells more.
                Err(_) => why = Some(why.unwrap_or_else(|| "it did not answer".to_owned())),
            }
            if Instant::now() + PAUSE >= deadline {
                let (At { version, .. }, timeout, why) = (self.at, self.timeout, why.unwrap_or_default());
                return Err(Trouble::Lost(format!("nothing of version {version} came within {timeout:?}: {why}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&mut self, start: &Bytes, deadline: Instant) -> Result<Page, Unanswered> {
        let dictionary = match &mut self.dictionary {
            Some(dictionary) => dictionary,
            None => {
                let channel = transport::connect(&self.address).await.map_err(Unanswered::Yet)?;
                let dictionary = DictionaryClient::new(channel);
                self.dictionary.insert(dictionary.max_decoding_message_size(transport::MESSAGE_BYTES_MAX))
            }
        };
        let mut request = tonic::Request::new(ScanRequest {
            start: start.clone(),
            at_version: Some(self.at.version.0),
            cluster: self.at.cluster.to_string(),
            // It is to speak for itself, and not to ask the primary what that has.
            redirect: true,
            ..Default::default()
        });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match dictionary.scan(request).await {
            Ok(response) => self.check(start, response.into_inner()).map_err(Trouble::Lost).map_err(Unanswered::Ever),
            Err(status) => Err(match refusal_from_status(&status) {
                Some(refused) => unanswered(refused),
                None => {
                    self.dictionary = None;
                    Unanswered::Yet(transport::describe(&status))
                }
            }),
        }
    }

    /// A page that can be compared: of this server, at this version, and in the order of its keys.
    fn check(&self, start: &Bytes, scanned: ScanResponse) -> Result<Page, String> {
        let answered = response_from_wire(session_response::Response::Scanned(scanned));
        let Ok(Ok(Answered { response: Response::Scanned { entries, next, seen, cluster }, server })) = answered else {
            return Err("its answer can't be read".to_owned());
        };
        if server != Some(self.server) {
            let other = server.map_or_else(|| "?".to_owned(), |other| other.to_string());
            return Err(format!("server {other} answered in its place"));
        }
        if (seen.version, cluster) != (self.at.version, self.at.cluster) {
            return Err(format!("it answered of version {} of cluster {cluster}", seen.version));
        }
        let keys = || entries.iter().map(|entry| &entry.key);
        let begins = keys().next().is_none_or(|first| first >= start);
        let ends = next.as_ref().is_none_or(|next| next > start && keys().next_back().is_none_or(|last| last < next));
        if !begins || !ends || !keys().is_sorted_by(|one, other| one < other) {
            return Err("its keys are not in their order".to_owned());
        }
        Ok(Page { entries: entries.into(), next })
    }
}

/// What a refusal means for a page that any copy may give which has come so far.
fn unanswered(Refused { refusal, message, .. }: Refused) -> Unanswered {
    match refusal {
        Refusal::VersionTooOld { oldest } => Unanswered::Ever(Trouble::TooOld { oldest }),
        // To say who leads is how a server says that it can't answer by itself.
        Refusal::NotPrimary { .. } => {
            Unanswered::Yet("it has not come so far, or does not answer by itself at the moment".to_owned())
        }
        Refusal::Recovering | Refusal::Overloaded | Refusal::OutcomeUnknown | Refusal::SessionUnknown => {
            Unanswered::Yet(message)
        }
        Refusal::OtherCluster
        | Refusal::VersionAhead { .. }
        | Refusal::SessionExpired
        | Refusal::SequenceAnswered { .. }
        | Refusal::BadKey { .. }
        | Refusal::BadValue { .. }
        | Refusal::BadSet { .. }
        | Refusal::BadSequence
        | Refusal::BadServer { .. }
        | Refusal::HandOverCalledOff => Unanswered::Ever(Trouble::Lost(message)),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::ClusterId;
    use heirloom_proto::wire::v1::{Epoch, ScanEntry};

    use super::*;

    const AT: At = At { version: Version(7), cluster: ClusterId { id: 1, generation: 1 } };

    fn pages() -> Pages {
        Pages::new(ServerId(1), "127.0.0.1:7401".parse().expect("well formed"), AT, Duration::from_secs(1))
    }

    fn answer(keys: &[&'static str], next: Option<&'static str>) -> ScanResponse {
        let entry = |key: &&'static str| ScanEntry { key: (*key).into(), ..Default::default() };
        ScanResponse {
            entries: keys.iter().map(entry).collect(),
            next: next.map(Into::into),
            version: AT.version.0,
            server: 1,
            epoch: Some(Epoch { round: 1, server: 0, run: 1 }),
            cluster: AT.cluster.to_string(),
            ..Default::default()
        }
    }

    fn checked(start: &'static str, scanned: ScanResponse) -> Result<usize, String> {
        pages().check(&start.into(), scanned).map(|page| page.entries.len())
    }

    #[test]
    fn a_page_that_cannot_be_compared_is_not() {
        assert_eq!(checked("a", answer(&["a", "b"], Some("c"))), Ok(2));
        assert_eq!(checked("a", answer(&[], Some("c"))), Ok(0), "it passed over what came later");
        assert_eq!(checked("a", answer(&[], None)), Ok(0));
        for wrong in [
            answer(&["A"], None),
            answer(&["b", "a"], None),
            answer(&["b", "b"], None),
            answer(&["b"], Some("b")),
            answer(&[], Some("a")),
        ] {
            assert!(checked("a", wrong.clone()).is_err_and(|why| why.contains("order")), "{wrong:?}");
        }
        let other_server = ScanResponse { server: 0, ..answer(&["a"], None) };
        assert!(checked("a", other_server).is_err_and(|why| why.contains("server 0 answered in its place")));
        let other_version = ScanResponse { version: 8, ..answer(&["a"], None) };
        assert!(checked("a", other_version).is_err_and(|why| why.contains("version 8")));
        let cluster = ClusterId { generation: 2, ..AT.cluster }.to_string();
        let other_cluster = ScanResponse { cluster, ..answer(&["a"], None) };
        assert!(checked("a", other_cluster).is_err_and(|why| why.contains("/2")));
        assert!(checked("a", ScanResponse::default()).is_err());
    }
}
