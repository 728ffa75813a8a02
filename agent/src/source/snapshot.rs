//! A picture asked for at a fixed rate, each with a GET.
//!
//! The instants are multiples of the period from the first one on, whatever became of the requests between: a slow answer leaves
//! instants out and shifts none. A picture's time is when it was asked for. The first instant is drawn at random, so that many cameras
//! are not asked at once.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::address::Address;
use super::http::{self, Client};
use super::jpeg_stream::Piece;
use super::live::Feed;
use super::status::Failure;

/// Longest wait for the first instant.
const SPREAD: Duration = Duration::from_secs(5);

/// A camera asked for its pictures.
#[derive(Debug)]
pub(super) struct Snapshot {
    client: Client,
    period: Duration,
    wait: Duration,
    first: Option<Instant>,
}

impl Snapshot {
    pub(super) const fn new(address: Address, certificates: Option<PathBuf>, wait: Duration, period: Duration) -> Self {
        Self { client: Client::new(address, certificates, wait), period, wait, first: None }
    }

    /// Asks until something fails.
    pub(super) async fn attempt(&mut self, feed: &Feed) -> Failure {
        loop {
            sleep_until(self.next(feed)).await;
            let taken = (feed.outside().now)().wall;
            let picture = match timeout(self.wait, self.ask(feed)).await {
                Ok(Ok(picture)) => picture,
                Ok(Err(failure)) => {
                    self.client.close();
                    return failure;
                }
                Err(_) => {
                    self.client.close();
                    return Failure::Timeout { doing: "waiting for a picture", after: self.wait };
                }
            };
            feed.put_taken(picture, taken);
        }
    }

    /// The next instant that is not over.
    fn next(&mut self, feed: &Feed) -> Instant {
        let now = Instant::now();
        let first = *self.first.get_or_insert_with(|| {
            let share = f64::from(u32::try_from((feed.outside().random)() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
            now + self.period.min(SPREAD).mul_f64(share)
        });
        if now < first {
            return first;
        }
        let passed = now.saturating_duration_since(first);
        let period = self.period.as_nanos().max(1);
        let periods = u64::try_from(passed.as_nanos() / period).unwrap_or(u64::MAX).saturating_add(1);
        let offset = u128::from(periods).saturating_mul(period);
        first + Duration::from_nanos(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    async fn ask(&mut self, feed: &Feed) -> Result<Piece, Failure> {
        let mut body = self.client.get(feed.outside()).await?.into_body();
        let limit = feed.limit();
        let expected = http::length(&body);
        if expected.is_some_and(|length| length > limit as u64) {
            self.client.close();
            return Ok(Piece::TooLarge);
        }
        let expected = expected.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut picture = Vec::with_capacity(expected.min(limit));
        while let Some(bytes) = http::piece(&mut body).await? {
            if picture.len() + bytes.len() > limit {
                self.client.close();
                return Ok(Piece::TooLarge);
            }
            picture.extend_from_slice(&bytes);
        }
        Ok(Piece::Picture(picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_phase_stays_whatever_the_answers_take() {
        let (_stop, feed, _live) = super::super::live::tests::pair(10);
        let address = Address::parse("http://h/", &http::SCHEMES).expect("good");
        let period = Duration::from_millis(400);
        let mut snapshot = Snapshot::new(address, None, Duration::from_secs(1), period);
        let first = snapshot.next(&feed);
        assert!(first - Instant::now() <= period);
        sleep_until(first).await;
        for (delay, periods) in [(1, 1), (399, 2), (401, 4), (1_999, 9)] {
            tokio::time::advance(Duration::from_millis(delay)).await;
            let next = snapshot.next(&feed);
            assert_eq!(next - first, period * periods, "after {delay} ms");
            sleep_until(next).await;
        }
    }
}
