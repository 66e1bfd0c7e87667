//! The settings in force, and their change.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use strum::VariantArray as _;

use super::save;
use crate::Result;
use crate::draw::{Palette, View};
use crate::monitor::routes::{Site, error, json as answer};
use crate::ood::alarm::Ignored;
use crate::pipeline::Tunable;
use crate::session::Change;

/// Most polygons, and most corners of one.
const POLYGONS: usize = 64;
const CORNERS: usize = 64;

/// The body of `POST /api/settings`: what it leaves out stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    threshold: Option<f32>,
    view: Option<View>,
    opacity: Option<f32>,
    palette: Option<Palette>,
    legend: Option<bool>,
    /// Polygons, `poly:x,y x,y x,y`.
    ignore: Option<Vec<String>>,
}

/// The settings in force as JSON; null before the session is ready.
pub(super) fn settings(site: &Site) -> Value {
    let Some(Tunable { threshold, style, ignore, .. }) = site.session.settings() else { return Value::Null };
    // The size of the video stays.
    let wide = style.view == View::SideBySide;
    let views: Vec<_> = View::VARIANTS.iter().filter(|view| (**view == View::SideBySide) == wide).collect();
    let polygons = ignore.polygons().iter().map(|corners| Ignored::Polygon(corners.clone()).to_string());
    json!({
        "threshold": threshold.map(shortest),
        "view": style.view,
        "views": views,
        "opacity": shortest(style.opacity),
        "palette": style.palette,
        "palettes": Palette::VARIANTS,
        "legend": style.legend,
        "ignore": polygons.collect::<Vec<_>>(),
        "saves": site.file.is_some(),
    })
}

/// `GET /api/settings`
pub(super) async fn read(Shared(site): Shared<Arc<Site>>) -> Response {
    answer(StatusCode::OK, &settings(&site))
}

/// `POST /api/settings`
pub(super) async fn change(Shared(site): Shared<Arc<Site>>, body: Bytes) -> Response {
    let changed = read_change(&body).and_then(|change| site.session.change(change));
    match changed {
        Ok(_) => answer(StatusCode::OK, &settings(&site)),
        Err(failed) => error(StatusCode::BAD_REQUEST, &failed.to_string()),
    }
}

/// `POST /api/save`
pub(super) async fn save(Shared(site): Shared<Arc<Site>>) -> Response {
    let Some(file) = &site.file else {
        return error(
            StatusCode::CONFLICT,
            "the run was started without a pipeline file (-c), so there is none to save to",
        );
    };
    let Some(now) = site.session.settings() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "not ready yet");
    };
    match save::save(file, &now, site.session.first_threshold()) {
        Ok(()) => {
            tracing::info!("http: the settings are saved to {}", file.display());
            answer(StatusCode::OK, &json!({ "saved": file.display().to_string() }))
        }
        Err(failed) => error(StatusCode::CONFLICT, &failed.to_string()),
    }
}

/// The shortest number that is the same `f32`.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn read_change(body: &[u8]) -> Result<Change> {
    let wanted = serde_json::from_slice(body).and_then(|object| serde_json::from_value(Value::Object(object)));
    let Wanted { threshold, view, opacity, palette, legend, ignore } =
        wanted.map_err(|wrong| crate::Error::usage(wrong.to_string()))?;
    let polygons = ignore.map(|list| {
        if list.len() > POLYGONS {
            return Err(crate::Error::usage(format!("more than {POLYGONS} polygons")));
        }
        list.iter().map(|text| polygon(text)).collect()
    });
    Ok(Change { threshold, view, opacity, palette, legend, ignore: polygons.transpose()? })
}

/// Parses a polygon; a path is none, so that no file is read for a client.
fn polygon(text: &str) -> Result<Vec<(f32, f32)>> {
    let wrong = |why: &str| crate::Error::usage(format!("{why}: expected poly:x,y x,y x,y"));
    if !text.starts_with("poly:") {
        return Err(wrong("not a polygon"));
    }
    if text.split_whitespace().count() > CORNERS {
        return Err(wrong("too many corners"));
    }
    match Ignored::parse(text)? {
        Ignored::Polygon(corners) => Ok(corners),
        Ignored::Mask(_) => Err(wrong("not a polygon")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(body: &str) -> std::result::Result<Change, String> {
        read_change(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_change_names_what_it_changes() {
        let some = change(r#"{"opacity": 0.5, "view": "mask", "ignore": ["poly:0,0 1,0 1,1"]}"#).unwrap();
        let polygon = vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)];
        let expected =
            Change { opacity: Some(0.5), view: Some(View::Mask), ignore: Some(vec![polygon]), ..Change::default() };
        assert_eq!(some, expected);
        assert_eq!(change("{}").unwrap(), Change::default());
    }

    #[test]
    fn what_is_no_setting_or_no_polygon_is_refused() {
        let long = format!(r#"{{"ignore": ["poly:{}"]}}"#, "0,0 ".repeat(100));
        let many = format!(r#"{{"ignore": [{}]}}"#, vec![r#""poly:0,0 1,0 1,1""#; 65].join(","));
        for (body, word) in [
            (r#"{"treshold": 1}"#, "treshold"),
            (r#"{"view": "upside-down"}"#, "upside-down"),
            (r#"{"ignore": ["/etc/passwd"]}"#, "poly:"),
            (r#"{"ignore": ["poly:0,0 1,1 1,0 0,1"]}"#, "crosses"),
            (r#"{"ignore": ["poly:0,0 2,0 1,1"]}"#, "outside"),
            (long.as_str(), "corners"),
            (many.as_str(), "64"),
            ("[1]", "map"),
        ] {
            let error = change(body).unwrap_err();
            assert!(error.contains(word), "{body}: {error}");
        }
    }
}
