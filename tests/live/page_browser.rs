//! The page in headless Chromium: pictures, settings, events, losses; and measurements, which are ignored by default.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use support::browser::{Browser, Page, Screen};
use support::camera::{Camera, CameraOptions};
use support::common::Place;
use support::live::{alone, free_port, http, metric, until};
use support::onnx;
use support::running::Live;

/// Rules by which the ball of the test pattern is an event for a network to which white is unknown.
const RULES: &str = "--method max-logit --threshold 1.5 --set events.settle_s=0 --set events.road_gate=false";
/// The mean luma of the large picture.
const MEAN: &str =
    "(() => { const image = document.getElementById('picture'); const canvas = document.createElement('canvas');
    canvas.width = 64; canvas.height = 36; const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 64, 36); const data = context.getImageData(0, 0, 64, 36).data;
    let sum = 0; for (let at = 1; at < data.length; at += 4) sum += data[at]; return sum / 64 / 36; })()";

/// A folder with a network to which white is unknown.
fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    place
}

/// Half a minute at 10 frames/s with a white box in every second second, always at another place, as `front.mp4` in
/// `place`.
fn blinking(place: &Place) {
    place.clip(
        "front.mp4",
        "-f lavfi -i color=black:size=320x180:rate=10:duration=30 -f lavfi -i color=white:size=60x60:rate=10:duration=30 \
         -filter_complex [0][1]overlay=x='mod(130*floor(t),240)':y=60:enable='gte(mod(t,2),1)' -c:v libx264 -preset ultrafast \
         -pix_fmt yuv420p",
    );
}

fn up(place: &Place, arguments: &str) -> (Live, u16) {
    let port = free_port();
    let run = Live::start(place, &format!("run {arguments} --http {port}"));
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    (run, port)
}

fn mean(page: &Page<'_>) -> f64 {
    page.value(MEAN).as_f64().unwrap()
}

fn text(page: &Page<'_>, id: &str) -> String {
    page.value(&format!("document.getElementById('{id}').textContent")).as_str().unwrap_or_default().to_owned()
}

/// Moves a slider to `value`, as a hand does.
fn slide(page: &Page<'_>, id: &str, value: f64) {
    page.value(&format!(
        "(() => {{ const slider = document.getElementById('{id}'); slider.value = {value}; \
         slider.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
    ));
}

#[test]
fn the_page_shows_the_video_and_changes_the_mask() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    let output = "<script>alert(1)<script>.mkv";
    let (mut run, port) = up(&place, &format!("test://ball?live=1&width=320&height=180 {RULES} -o {output}"));
    let page = browser.open(&format!("http://127.0.0.1:{port}/"), Screen::default());
    until("it is connected", || text(&page, "connection").starts_with("connected"));
    let load = page.value("performance.getEntriesByType('navigation')[0].loadEventEnd");
    println!("loaded in {load} ms");
    until("there is a picture", || page.is("document.getElementById('waiting').hidden"));
    let source = "document.getElementById('picture').src";
    let first = (page.value(source), mean(&page));
    until("the video moves", || page.value(source) != first.0 && mean(&page) != first.1);

    // The threshold by the slider, in the view of the mask: nothing is marked, then all.
    page.value(
        "(() => { for (const [id, value] of [['view', 'mask'], ['opacity', '1']]) { const control = document.getElementById(id); \
         control.value = value; for (const name of ['input', 'change']) control.dispatchEvent(new Event(name)); } })()",
    );
    until("the slider is ready", || page.is("!document.getElementById('threshold').disabled"));
    let [low, high] = ["min", "max"]
        .map(|end| page.value(&format!("Number(document.getElementById('threshold').{end})")).as_f64().unwrap());
    for (threshold, is_there) in [(high, (|mean| mean < 30.0) as fn(f64) -> bool), (low, |mean| mean > 200.0)] {
        let start = Instant::now();
        slide(&page, "threshold", threshold);
        until("the mask has changed", || is_there(mean(&page)));
        println!("threshold {threshold:.2}: the mask has changed after {:.2} s", start.elapsed().as_secs_f64());
    }
    // A name is text.
    until("the output is listed", || text(&page, "outputs").contains(output));
    assert!(page.is("document.querySelectorAll('#outputs script').length === 0"));
    assert!(page.is("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    run.stop(130);
    until("the end is reported", || {
        text(&page, "connection").contains("lost") || text(&page, "connection").contains("reached")
    });
}

#[test]
fn events_losses_and_ignored_parts_are_shown() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    let mut camera = Camera::start(CameraOptions { width: 320, height: 180, ..CameraOptions::default() });
    let (mut run, port) = up(
        &place,
        &format!(
            "test://ball?live=1&width=320&height=180 {} {RULES} -o none --transport tcp --set source.stall_s=1",
            camera.address()
        ),
    );
    let page = browser.open(&format!("http://127.0.0.1:{port}/#127-0-0-1-cam"), Screen::default());
    until("both streams are there", || page.value("document.querySelectorAll('#streams li').length") == 2);
    until("the camera is up", || text(&page, "state") == "up");
    camera.stop();
    until("the loss is shown", || text(&page, "state") == "down" && !text(&page, "reason").is_empty());
    camera.cont();
    until("the return is shown", || text(&page, "state") == "up");

    // By the keyboard: the first stream of the grid.
    page.value("document.querySelector('#streams button').focus()");
    page.press("Enter");
    until("it is large", || text(&page, "title") == "test");
    page.value("document.getElementById('type').click()");
    page.value("document.getElementById('corners').value = '0,0.5 1,0.5 1,1 0,1'");
    page.value("document.querySelector('#typed button').click()");
    until("the polygon is listed", || page.value("document.querySelectorAll('#ignored li').length") == 1);
    assert!(page.is("document.querySelectorAll('#polygons polygon').length === 1"));
    // By the mouse: three corners, and Enter.
    page.value("document.getElementById('draw').click()");
    page.value("window.scrollTo(0, 0)");
    let left_top = page.value(
        "(() => { const box = document.getElementById('picture').getBoundingClientRect(); return [box.left, box.top]; })()",
    );
    let (left, top) = (left_top[0].as_f64().unwrap(), left_top[1].as_f64().unwrap());
    for (x, y) in [(20.0, 20.0), (120.0, 20.0), (20.0, 90.0)] {
        page.click(left + x, top + y);
    }
    page.value("document.activeElement.blur()");
    page.press("Enter");
    until("both polygons are listed", || page.value("document.querySelectorAll('#ignored li').length") == 2);
    page.value("document.querySelector('#ignored button').click()");
    page.value("document.querySelector('#ignored button').click()");
    until("an event is shown with its picture", || {
        page.is("[...document.querySelectorAll('#events img')].some((image) => image.naturalWidth === 320)")
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
    run.stop(130);
}

#[test]
fn a_password_is_asked_for() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    fs::write(place.path("password"), "open sesame\n").unwrap();
    let input = fs::File::open(place.path("password")).unwrap();
    let hash = place.program().arg("password").stdin(input).output().unwrap().stdout;
    let hash = String::from_utf8(hash).unwrap();
    fs::write(place.path("p.toml"), format!("[http]\npassword_hash = '{}'\n", hash.trim())).unwrap();
    let (mut run, port) = up(&place, "test://ball?live=1&width=160&height=96 --method max-logit -o none -c p.toml");
    let page = browser.open(&format!("http://127.0.0.1:{port}/"), Screen::default());
    until("the password is requested", || page.is("document.getElementById('login').open"));
    for (password, open) in [("sesame", true), ("open sesame", false)] {
        page.value(&format!("document.getElementById('password').value = '{password}'"));
        page.value("document.querySelector('#login-form button').click()");
        until("it is answered", || page.is("document.getElementById('login').open") == open);
        if open {
            until("the refusal is said", || text(&page, "login-said").contains("wrong"));
        }
    }
    until("the video is there", || page.is("document.getElementById('waiting').hidden"));
    assert!(page.is("!document.cookie.includes('oodstream')"), "scripts do not see the session");
    run.stop(130);
}

#[test]
fn an_event_is_on_the_page_while_it_goes_on() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    blinking(&place);
    let (mut run, port) = up(&place, &format!("front.mp4 --realtime {RULES} -o none"));
    let page = browser.open(&format!("http://127.0.0.1:{port}/"), Screen::default());
    // What is seen of each event, in order.
    page.value(
        "(() => { window.seen = {}; new MutationObserver(() => { \
         for (const item of document.querySelectorAll('#events li')) { const titles = window.seen[item.id] ??= []; const title = item.querySelector('.title').textContent; \
         if (titles.at(-1) !== title) titles.push(title); } }) \
         .observe(document.getElementById('events'), { childList: true, subtree: true, characterData: true }); })()",
    );
    let whole = "Object.values(window.seen).filter((titles) => titles.at(0).endsWith(', now') && titles.length === 2 \
                 && titles[0] === `${titles[1]}, now`).length";
    until("three events began and ended", || page.value(whole).as_u64() >= Some(3));
    assert_eq!(page.value("document.querySelectorAll('#events button').length"), 0, "nothing is recorded");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    run.stop(130);
}

/// Whether the video of the replay shows something white, and its time.
const REPLAYED: &str = "(() => { const video = document.getElementById('replay-video'); \
    const canvas = document.createElement('canvas'); canvas.width = 64; canvas.height = 36; \
    const context = canvas.getContext('2d'); context.drawImage(video, 0, 0, 64, 36); \
    const data = context.getImageData(0, 0, 64, 36).data; let most = 0; \
    for (let at = 1; at < data.length; at += 4) most = Math.max(most, data[at]); \
    return [most > 180, video.currentTime]; })()";

/// Clicks on the first event of the list, and waits until its video shows it; the time of the video then.
fn replay(page: &Page<'_>, event: &str) -> f64 {
    page.value(&format!("document.querySelector('#event-{event} button').click()"));
    until("the video can be played", || {
        page.is("document.getElementById('replay').open && document.getElementById('replay-video').readyState >= 2")
    });
    until("the event is seen", || page.value(REPLAYED)[0] == true);
    let at = page.value(REPLAYED)[1].as_f64().unwrap();
    page.value("document.getElementById('replay-close').click()");
    until("it is closed", || {
        page.is("!document.getElementById('replay').open && !document.getElementById('replay-video').src")
    });
    at
}

#[test]
fn a_click_on_an_event_plays_its_clip_or_recording_at_its_time() {
    let _alone = alone();
    let place = place();
    blinking(&place);
    let quiet = "--opacity 0 --no-legend --policy wait";
    for (outputs, of) in [
        ("-o rec/%Y%m%d-%H%M%S.mp4", "rec"),
        ("-o clips:clips --clip-before 0.3 --clip-after 0.3 --set events.end_after_s=0.2", "clips"),
    ] {
        // One of its own: a page complains when its program ends.
        let Some(browser) = Browser::start() else { return };
        let (mut run, port) = up(&place, &format!("front.mp4 --realtime {RULES} {quiet} {outputs}"));
        let page = browser.open(&format!("http://127.0.0.1:{port}/"), Screen::default());
        // The clip is there some time after the event is over.
        let over = "[...document.querySelectorAll('#events li')].filter((item) => !item.textContent.includes(', now')) \
                    .map((item) => item.id.slice(6))";
        let recorded = || {
            page.value(over).as_array().unwrap().iter().find_map(|id| {
                let (status, body) = http(port, "GET", &format!("/api/events/{}/recording", id.as_str().unwrap()));
                (status == 200)
                    .then(|| (id.as_str().unwrap().to_owned(), serde_json::from_str::<Value>(&body).unwrap()))
            })
        };
        until("an event is recorded", || recorded().is_some());
        let (id, found) = recorded().unwrap();
        let at = found["at_s"].as_f64().unwrap();
        let time = replay(&page, &id);
        println!("{of}: {found}, seen at {time:.2} s");
        // It begins two seconds before, or at the start; the box is in every second second.
        assert!(time >= at && time < at + 4.0, "{time} {found}");
        let file = found["file"].as_str().unwrap();
        assert!(file.ends_with(".mp4") && (of == "rec" || file.contains(&id)), "{file}");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        run.stop(130);
    }
}

/// Milliseconds from the start of events to their place on the page, and of loads.
#[test]
#[ignore = "a measurement"]
fn times_in_a_browser() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    blinking(&place);
    let (mut run, port) = up(&place, &format!("front.mp4 --realtime {RULES} -o none"));
    let page = browser.open(&format!("http://127.0.0.1:{port}/icon.svg"), Screen::default());
    let mut loads = Vec::new();
    for _ in 0..11 {
        page.go(&format!("http://127.0.0.1:{port}/"));
        until("it is connected", || {
            page.is("document.getElementById('connection')?.textContent.startsWith('connected') ?? false")
        });
        loads.push(page.value("performance.getEntriesByType('navigation')[0].loadEventEnd").as_f64().unwrap());
    }
    loads.sort_by(f64::total_cmp);
    println!("load: median {:.0} ms, longest {:.0} ms of {}", loads[5], loads[10], loads.len());
    page.value(
        "(() => { window.delays = []; new MutationObserver((changes) => { for (const change of changes) for (const item of \
         change.addedNodes) setTimeout(() => window.delays.push([item.id, performance.timeOrigin + performance.now()])); \
         }).observe(document.getElementById('events'), { childList: true }); window.raised = {}; \
         new EventSource('/api/feed').addEventListener('event', (message) => { const event = JSON.parse(message.data); \
         if (event.type === 'start') window.raised['event-' + event.id] = Date.parse(event.end_wall); }); })()",
    );
    until("events were shown", || page.value("window.delays.length").as_u64() >= Some(5));
    let delays = page.value("window.delays.map(([id, shown]) => shown - window.raised[id])");
    println!("event: from the frame that raised it to the page, ms: {delays}");
    run.stop(130);
}

/// Memory and descriptors of the program after many loads and closes of its page.
#[test]
#[ignore = "a measurement"]
fn two_hundred_loads_and_closes() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let place = place();
    let (mut run, port) = up(&place, &format!("test://ball?live=1&width=320&height=180 {RULES} -o none"));
    let url = format!("http://127.0.0.1:{port}/");
    let state = |run: &Live| {
        let bytes = |name: &str| metric(port, &format!("oodstream_{name}_bytes")) / 1e6;
        (bytes("heap_in_use"), bytes("resident_memory"), run.descriptors())
    };
    for load in 0..=200 {
        let page = browser.open(&url, Screen::default());
        until("there is a picture", || page.is("document.getElementById('waiting').hidden"));
        page.close();
        if load % 50 == 0 {
            until("its connections are closed", || run.descriptors() <= 40);
            let (heap, resident, descriptors) = state(&run);
            println!("after {load} loads: heap {heap:.1} MB, resident {resident:.1} MB, {descriptors} descriptors");
        }
    }
    run.stop(130);
}

/// Frames in a second with three pages open and with none, in turns.
#[test]
#[ignore = "a measurement"]
fn the_rate_with_three_pages_open() {
    let _alone = alone();
    let place = Place::new();
    let model = std::env::var("OODSTREAM_MEASURED_MODEL").ok();
    let port = free_port();
    let mut program = place.program();
    if let Some(model) = &model {
        program.env("OODSTREAM_MODEL", model);
    }
    let mut run = Live::start_with(
        &place,
        program,
        &format!("run test://ball?live=1&width=1280&height=720&fps=100 -o none --http {port}"),
    );
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let out = || metric(port, "oodstream_frames_out_total{stream=\"test\"}");
    let rate = |seconds: u64| {
        let (from, start) = (out(), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        (out() - from) / start.elapsed().as_secs_f64()
    };
    rate(5);
    let seconds = 10;
    let (mut none, mut three) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        none.push(rate(seconds));
        let readers: Vec<_> = (0..3).map(|_| super::page::Reader::open(port, "test")).collect();
        three.push(rate(seconds));
        println!("pictures: {:?}", readers.iter().map(super::page::Reader::pictures).collect::<Vec<_>>());
    }
    let median = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("none {none:.2?}, three pages {three:.2?} frames/s");
    println!("ratio of the medians {:.4}", median(&three) / median(&none));
    run.stop(130);
}

/// The pictures of the documents: `OODSTREAM_SCREENSHOTS=FOLDER`.
#[test]
#[ignore = "makes the pictures of the documents"]
fn screenshots() {
    let _alone = alone();
    let Some(browser) = Browser::start() else { return };
    let Some(folder) = std::env::var_os("OODSTREAM_SCREENSHOTS").map(std::path::PathBuf::from) else { return };
    let place = Place::new();
    let root = support::repository();
    let (street, model) = (root.join("samples/street.mp4"), root.join("models/default.onnx"));
    let mut program = place.program();
    program.env("OODSTREAM_MODEL", model);
    let port = free_port();
    // The clip again and again.
    fs::write(place.path("list"), format!("file '{}'\n", street.display()).repeat(20)).unwrap();
    place.clip("front.mp4", &format!("-f concat -safe 0 -i {} -c copy -an", place.path("list").display()));
    fs::copy(place.path("front.mp4"), place.path("rear.mp4")).unwrap();
    let mut run = Live::start_with(
        &place,
        program,
        &format!(
            "run front.mp4 rear.mp4 --realtime -o hls:hls-{{name}} -o clips:clips --http {port} --set events.settle_s=0"
        ),
    );
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let url = format!("http://127.0.0.1:{port}/");
    for (name, screen) in [
        ("page.png", Screen::default()),
        ("page-phone.png", Screen { width: 390, height: 844, phone: true, dark: false }),
        ("page-dark.png", Screen { dark: true, ..Screen::default() }),
    ] {
        let page = browser.open(&url, screen);
        until("there is a picture", || page.is("document.getElementById('waiting').hidden"));
        let started = Instant::now();
        until("some time has passed and something has happened", || {
            started.elapsed() > Duration::from_secs(20)
                || page.is("document.querySelectorAll('#events li').length >= 4")
        });
        let png = base64::engine::general_purpose::STANDARD.decode(page.screenshot()).unwrap();
        fs::write(folder.join(name), png).unwrap();
        page.close();
    }
    run.stop(130);
}
