//! What happens, as server-sent events: the last minutes first, then samples of every stream, events and settings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;

use super::controls::settings;
use crate::lock::lock;
use crate::monitor::health::health;
use crate::monitor::routes::{LongLived, Site, error};
use crate::pipeline::Reading;
use crate::session::StreamStatus;
use crate::session::board::Notice;

/// Time between two samples.
const EVERY: Duration = Duration::from_millis(500);
/// Samples that are remembered: five minutes.
const HISTORY: usize = 600;
/// Messages that a slow client may be behind before it is dropped.
const BEHIND: usize = 256;
/// Clients at the same time.
const CLIENTS: usize = 32;

/// What all clients get.
pub(in crate::monitor) struct Feed {
    messages: broadcast::Sender<Bytes>,
    history: Mutex<VecDeque<Past>>,
}

/// A sample as it is remembered: when, and share and highest score of each stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Past {
    t: u64,
    streams: BTreeMap<String, [Option<f32>; 2]>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { messages: broadcast::Sender::new(BEHIND), history: Mutex::default() }
    }
}

impl Feed {
    /// Takes samples of `site` and passes on its events until it is gone.
    pub async fn run(site: Weak<Site>) {
        let Some(mut news) = site.upgrade().map(|site| site.board.news()) else { return };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut in_force) = (Before::default(), Value::Null);
        loop {
            let notice = tokio::select! {
                _ = ticks.tick() => None,
                notice = news.recv() => match notice {
                    Ok(notice) => Some(notice),
                    // A client that begins now gets them with the others.
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            };
            let Some(site) = site.upgrade() else { return };
            match notice {
                Some(notice) => site.feed.send("event", &of_event(&site, &notice)),
                None => {
                    let now = settings(&site);
                    if now != in_force {
                        site.feed.send("settings", &now);
                        in_force = now;
                    }
                    let (past, sample) = before.sample(&site);
                    site.feed.remember(past);
                    site.feed.send("sample", &sample);
                }
            }
        }
    }

    fn send(&self, name: &str, value: &Value) {
        // Without clients there is nobody to tell.
        let _ = self.messages.send(message(name, value));
    }

    fn remember(&self, past: Past) {
        let mut history = self.lock();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(past);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Past>> {
        lock(&self.history)
    }
}

/// `GET /api/feed`
pub(super) async fn follow(Shared(site): Shared<Arc<Site>>) -> Response {
    if site.feed.messages.receiver_count() >= CLIENTS {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open");
    }
    let messages = site.feed.messages.subscribe();
    let hello = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "login": !site.access.is_open(),
        "settings": settings(&site),
        "history": site.feed.lock().iter().cloned().collect::<Vec<_>>(),
        "events": site.board.events().iter().map(|notice| of_event(&site, notice)).collect::<Vec<_>>(),
    });
    let (sender, body) = Channel::new(1);
    tokio::spawn(pass_on(message("hello", &hello), messages, sender));
    let mut response = ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response();
    response.extensions_mut().insert(LongLived);
    response
}

/// Passes `messages` on until the client is gone, or so slow that some are lost to it. One that comes back begins with
/// the last minutes.
async fn pass_on(hello: Bytes, mut messages: broadcast::Receiver<Bytes>, mut sender: Sender<Bytes>) {
    let mut next = Ok(hello);
    while let Ok(message) = next {
        if sender.send_data(message).await.is_err() {
            return;
        }
        next = messages.recv().await;
    }
}

fn message(name: &str, value: &Value) -> Bytes {
    // JSON has no line breaks outside of its strings, and none unescaped in them.
    format!("event: {name}\ndata: {value}\n\n").into()
}

fn of_event(site: &Site, notice: &Notice) -> Value {
    let stream = site.session.stream(&notice.event.stream);
    let mut value = json!(notice.event);
    value["recorded"] = json!(stream.is_some_and(|stream| stream.outputs.iter().any(|output| output.records)));
    value["picture"] = json!(!notice.thumbnail.is_empty());
    value
}

/// The counters at the last sample, by stream.
#[derive(Default)]
struct Before(BTreeMap<String, (SystemTime, Reading)>);

impl Before {
    fn sample(&mut self, site: &Site) -> (Past, Value) {
        let now = SystemTime::now();
        let t = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut past = Past { t, streams: BTreeMap::new() };
        let mut streams = Vec::new();
        for stream in site.session.streams() {
            let reading = stream.meter.read();
            let name = stream.meter.name().to_owned();
            let before = self.0.insert(name.clone(), (now, reading.clone()));
            let scores = stream.watched.as_ref().and_then(|watched| watched.scores());
            // Nothing is seen while nothing comes in.
            let fresh = before.as_ref().is_none_or(|(_, before)| before.looked_at != reading.looked_at);
            let seen = [Some(reading.share_last), scores.map(|(_, high)| high)].map(|value| value.filter(|_| fresh));
            past.streams.insert(name, seen);
            let mut value = of_stream(&stream, &reading, before.as_ref(), now, scores);
            value["seen"] = json!(fresh);
            streams.push(value);
        }
        let stages = site.session.stages();
        (past, json!({ "t": t, "streams": streams, "stages": stages.into_iter().map(of_stage).collect::<Vec<_>>() }))
    }
}

fn of_stage((name, stage): (&'static str, crate::pipeline::StageReport)) -> Value {
    json!({
        "name": name,
        "frames": stage.frames,
        "queue": stage.queue,
        "busy_p50_s": stage.busy_p50_s,
        "busy_p95_s": stage.busy_p95_s,
    })
}

fn of_stream(
    stream: &StreamStatus,
    reading: &Reading,
    before: Option<&(SystemTime, Reading)>,
    now: SystemTime,
    scores: Option<(f32, f32)>,
) -> Value {
    let health = health(stream);
    let since = before.and_then(|(then, before)| Some((now.duration_since(*then).ok()?.as_secs_f64(), before)));
    let rate = |count: fn(&Reading) -> u64| {
        since.map(|(seconds, before)| count(reading).saturating_sub(count(before)) as f64 / seconds.max(1e-3))
    };
    // The mean of what came since the last sample.
    let latency = since.and_then(|(_, before)| {
        let (count, sum) = reading.latency_total;
        let frames = count.checked_sub(before.latency_total.0).filter(|frames| *frames > 0)?;
        Some((sum - before.latency_total.1) / frames as f64)
    });
    let outputs = stream.outputs.iter().map(|output| {
        json!({
            "name": output.name,
            "up": output.is_up(),
            "clients": output.clients.load(Ordering::Relaxed),
            "dropped": output.dropped.load(Ordering::Relaxed),
            "restarts": output.restarts.load(Ordering::Relaxed),
        })
    });
    json!({
        "name": health.stream,
        "state": health.state,
        "reason": health.reason,
        "share": reading.share_last,
        "low": scores.map(|(low, _)| low),
        "high": scores.map(|(_, high)| high),
        "fps_in": rate(|reading| reading.frames_in),
        "fps_out": rate(|reading| reading.frames_out),
        "dropped": reading.dropped(),
        "reconnects": reading.reconnects,
        "latency_s": latency,
        "latency_p95_s": reading.latency.map(|latency| latency.p95_s),
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_holds() {
        let text = String::from_utf8(message("event", &json!({ "label": "a\nb\r\n</script>" })).to_vec()).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("event: event\ndata: {") && text.ends_with("}\n\n"));
    }

    #[test]
    fn the_history_is_bounded() {
        let feed = Feed::default();
        for t in 0..2 * HISTORY as u64 {
            feed.remember(Past { t, streams: BTreeMap::new() });
        }
        let history = feed.lock();
        assert_eq!((history.len(), history[0].t), (HISTORY, HISTORY as u64));
    }

    #[test]
    fn a_client_that_falls_behind_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let feed = Feed::default();
            let messages = feed.messages.subscribe();
            let (sender, body) = Channel::<Bytes>::new(1);
            let passing = tokio::spawn(pass_on(Bytes::from_static(b"hello"), messages, sender));
            for _ in 0..3 * BEHIND {
                feed.send("sample", &Value::Null);
                tokio::task::yield_now().await;
            }
            // It takes nothing until now; what waited comes, and then the end.
            let seen = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            passing.await.unwrap();
            assert!(seen.len() < BEHIND * 30, "{}", seen.len());
            assert_eq!(feed.messages.receiver_count(), 0);
        });
    }
}
