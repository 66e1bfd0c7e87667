//! All counters as OpenMetrics text. Values are read on request; nothing is stored here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::health::{State, health};
use crate::input::live::PacketCounts;
use crate::memory;
use crate::notify::{Delivery, Status};
use crate::pipeline::{LATENCY_BOUNDS, Reading, StageReport};
use crate::session::{Handle, StreamStatus};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of `session`.
pub(super) fn text(session: &Handle) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("oodstream");
    registry.register_collector(Box::new(Metrics { session: session.clone() }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Metrics {
    session: Handle,
}

/// One line: its labels and its value.
type Line<'a, const N: usize> = ([(&'static str, &'a str); N], f64);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        process(&mut encoder)?;
        if !self.session.is_ready() {
            return Ok(());
        }
        let open = self.session.streams();
        streams(&mut encoder, &open)?;
        outputs(&mut encoder, &open)?;
        messages(&mut encoder, self.session.messages())?;
        stages(&mut encoder, &self.session.stages())
    }
}

fn family<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    lines: impl IntoIterator<Item = Line<'a, N>>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in lines {
        let labels = labels.map(|(name, value)| (name, escaped(value)));
        value_line(&mut family, kind, &labels, value)?;
    }
    Ok(())
}

/// Escapes a label value for the text format.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn value_line(
    family: &mut MetricEncoder<'_>,
    kind: MetricType,
    labels: &impl EncodeLabelSet,
    value: f64,
) -> Result<(), fmt::Error> {
    let mut line = family.encode_family(labels)?;
    match kind {
        MetricType::Counter => line.encode_counter(&(value as u64), None::<&Exemplar<NoLabelSet, u64>>),
        _ => line.encode_gauge(&value),
    }
}

fn process(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let gauge = |name, help, value: Option<f64>, encoder: &mut DescriptorEncoder<'_>| match value {
        Some(value) => encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value),
        None => Ok(()),
    };
    gauge("resident_memory_bytes", "Memory of the process in RAM", resident_bytes(), encoder)?;
    let in_use = memory::in_use().map(|bytes| bytes as f64);
    gauge("heap_in_use_bytes", "Memory that is allocated, without what the heap keeps free", in_use, encoder)?;
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    gauge("open_descriptors", "Open file descriptors of the process", descriptors, encoder)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn streams(encoder: &mut DescriptorEncoder<'_>, open: &[StreamStatus]) -> Result<(), fmt::Error> {
    let readings: Vec<(&str, Reading)> = open.iter().map(|stream| (stream.meter.name(), stream.meter.read())).collect();
    let mut each = |kind, name, help, value: &dyn Fn(&Reading) -> f64| {
        let lines = readings.iter().map(|(stream, reading)| ([("stream", *stream)], value(reading)));
        family(encoder, kind, name, help, lines)
    };
    let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
    each(counter, "frames_in", "Frames decoded", &|r| r.frames_in as f64)?;
    each(counter, "frames_out", "Frames handed to the encoder, repeats left out", &|r| r.frames_out as f64)?;
    each(counter, "frames_repeated", "Repeats of the last picture without signal", &|r| r.repeats as f64)?;
    each(counter, "reconnects", "Times that pictures came back after a loss", &|r| r.reconnects as f64)?;
    each(gauge, "frames_waiting", "Frames waiting for the network", &|r| r.waiting as f64)?;
    each(gauge, "ood_share", "Share of marked pixels in the last frame, 0 to 1", &|r| f64::from(r.share_last))?;
    let dropped = readings.iter().flat_map(|(stream, reading)| {
        [("crowded", reading.crowded), ("stale", reading.stale)]
            .map(|(reason, count)| ([("stream", *stream), ("reason", reason)], count as f64))
    });
    family(encoder, counter, "frames_dropped", "Frames left out on purpose", dropped)?;
    let packets: Vec<_> = readings.iter().filter_map(|(stream, reading)| Some((*stream, reading.packets?))).collect();
    if !packets.is_empty() {
        let mut each = |name, help, value: &dyn Fn(&PacketCounts) -> u64| {
            let lines = packets.iter().map(|(stream, packets)| ([("stream", *stream)], value(packets) as f64));
            family(encoder, counter, name, help, lines)
        };
        each("packets_received", "RTP packets that arrived", &|p| p.received)?;
        each("packets_lost", "RTP packets that never arrived", &|p| p.lost)?;
        each("packets_reordered", "RTP packets that arrived behind later ones", &|p| p.reordered)?;
    }
    let healths: Vec<_> = open.iter().map(health).collect();
    let states = healths.iter().flat_map(|health| {
        [State::Up, State::Degraded, State::Down].map(|state| {
            let labels = [("stream", health.stream.as_str()), ("state", state.name())];
            (labels, f64::from(u8::from(health.state == state)))
        })
    });
    family(encoder, gauge, "stream_state", "1 for the state that the stream is in", states)?;
    let help = "Time from the capture of a frame to its hand-over to the encoder, in seconds";
    let mut latency = encoder.encode_descriptor("latency_seconds", help, None, MetricType::Histogram)?;
    for (stream, reading) in &readings {
        let (count, sum) = reading.latency_total;
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = LATENCY_BOUNDS
            .into_iter()
            .zip(reading.latency_below)
            .map(|(bound, below)| (bound, below - std::mem::replace(&mut before, below)))
            .collect();
        buckets.push((f64::MAX, count - before));
        latency
            .encode_family(&[("stream", escaped(stream))])?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn outputs(encoder: &mut DescriptorEncoder<'_>, open: &[StreamStatus]) -> Result<(), fmt::Error> {
    let outputs: Vec<_> = open
        .iter()
        .flat_map(|stream| stream.outputs.iter().map(|output| (stream.meter.name(), output.as_ref())))
        .collect();
    let mut each = |kind, name, help, value: &dyn Fn(&crate::output::publish::OutputStatus) -> u64| {
        let lines = outputs
            .iter()
            .map(|(stream, output)| ([("stream", *stream), ("output", output.name.as_str())], value(output) as f64));
        family(encoder, kind, name, help, lines)
    };
    each(MetricType::Gauge, "output_up", "1 while the output works", &|o| u64::from(o.up.load(Ordering::Relaxed)))?;
    each(MetricType::Gauge, "output_clients", "Clients of the output", &|o| o.clients.load(Ordering::Relaxed))?;
    each(MetricType::Counter, "output_dropped", "Frames that the output did not take", &|o| {
        o.dropped.load(Ordering::Relaxed)
    })?;
    each(MetricType::Counter, "output_restarts", "Times that the output was started again", &|o| {
        o.restarts.load(Ordering::Relaxed)
    })
}

fn messages(encoder: &mut DescriptorEncoder<'_>, outputs: &[Arc<Status>]) -> Result<(), fmt::Error> {
    if outputs.is_empty() {
        return Ok(());
    }
    let readings: Vec<Delivery> = outputs.iter().map(|output| output.read()).collect();
    let mut each = |kind, name, help, value: &dyn Fn(&Delivery) -> u64| {
        let lines = readings.iter().map(|reading| ([("output", reading.output.as_str())], value(reading) as f64));
        family(encoder, kind, name, help, lines)
    };
    each(MetricType::Gauge, "message_output_up", "1 while the output of messages works", &|m| {
        u64::from(m.outage.is_none())
    })?;
    each(MetricType::Gauge, "messages_waiting", "Messages that were not accepted yet", &|m| m.waiting)?;
    each(MetricType::Counter, "messages_sent", "Messages that were accepted", &|m| m.sent)?;
    each(MetricType::Counter, "messages_dropped", "Messages that were lost", &|m| m.dropped)?;
    each(MetricType::Counter, "message_failures", "Attempts to send that failed", &|m| m.failures)
}

fn stages(encoder: &mut DescriptorEncoder<'_>, report: &[(&str, StageReport)]) -> Result<(), fmt::Error> {
    let help = "Frames waiting in front of the stage when it took one last";
    let lines = report.iter().map(|(stage, figures)| ([("stage", *stage)], figures.queue as f64));
    family(encoder, MetricType::Gauge, "queue_length", help, lines)?;
    let help = "Work of the stage per frame in seconds, waiting left out; infer is the network";
    let lines = report.iter().flat_map(|(stage, figures)| {
        [("0.5", figures.busy_p50_s), ("0.95", figures.busy_p95_s)]
            .map(|(quantile, value)| ([("stage", *stage), ("quantile", quantile)], value))
    });
    family(encoder, MetricType::Gauge, "stage_busy_seconds", help, lines)
}
