//! Windows (`display:`), through the binary, on an X server without a screen.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use support::common::Place;
use support::live::{decoded, free_port, goes_on, http, metric, until};
use support::running::Live;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

struct Screen {
    xvfb: Child,
    name: String,
    client: RustConnection,
    root: Window,
}

impl Screen {
    /// None, with a word about it, where there is no Xvfb.
    fn start() -> Option<Self> {
        let (read, write) = std::io::pipe().unwrap();
        let xvfb = Command::new("Xvfb")
            // Without a reset: the first connection only asks what there is, and ends.
            .args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset"])
            .stdout(write)
            .stderr(Stdio::null())
            .spawn();
        let Ok(xvfb) = xvfb else {
            eprintln!("skipped: there is no Xvfb to show a window on");
            return None;
        };
        let mut number = String::new();
        BufReader::new(read).read_line(&mut number).unwrap();
        let name = format!(":{}", number.trim());
        let (client, screen) = x11rb::connect(Some(&name)).unwrap();
        let root = client.setup().roots[screen].root;
        Some(Self { xvfb, name, client, root })
    }

    fn run(&self, place: &Place, arguments: &str) -> Live {
        let mut program = place.program();
        program.env("DISPLAY", &self.name).env_remove("WAYLAND_DISPLAY");
        Live::start_with(place, program, &format!("run test://ball?live=1&width=160&height=90&fps=25 {arguments}"))
    }

    fn atom(&self, name: &str) -> u32 {
        self.client.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
    }

    /// The window that is open, once it can be asked to close.
    fn window(&self) -> Option<Window> {
        let protocols = self.atom("WM_PROTOCOLS");
        let windows = self.client.query_tree(self.root).unwrap().reply().unwrap().children;
        windows.into_iter().find(|window| {
            let asked = self.client.get_property(false, *window, protocols, AtomEnum::ATOM, 0, 8).unwrap();
            asked.reply().is_ok_and(|property| property.value_len > 0)
        })
    }

    /// The darkest and the brightest value in the window, and its size.
    fn picture(&self, window: Window) -> Option<(u8, u8, (u16, u16))> {
        let shape = self.client.get_geometry(window).unwrap().reply().ok()?;
        let (width, height) = (shape.width, shape.height);
        let image = self.client.get_image(ImageFormat::Z_PIXMAP, window, 0, 0, width, height, u32::MAX).unwrap();
        // Blue, green, red and nothing.
        let pixels = image.reply().ok()?.data;
        let green = || pixels.chunks_exact(4).map(|pixel| pixel[1]);
        Some((green().min()?, green().max()?, (width, height)))
    }

    /// What a window manager does when its button is clicked.
    fn close(&self, window: Window) {
        let word = [self.atom("WM_DELETE_WINDOW"), x11rb::CURRENT_TIME, 0, 0, 0];
        let event = ClientMessageEvent::new(32, window, self.atom("WM_PROTOCOLS"), word);
        self.client.send_event(false, window, EventMask::NO_EVENT, event).unwrap().check().unwrap();
    }

    fn end(&mut self) {
        self.xvfb.kill().unwrap();
        self.xvfb.wait().unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.xvfb.kill();
        let _ = self.xvfb.wait();
    }
}

#[test]
fn a_window_shows_the_pictures_and_ends_the_stream_when_it_is_closed() {
    let Some(screen) = Screen::start() else { return };
    let place = Place::new();
    let mut run = screen.run(&place, "-o display: --json r.json");
    until("a white ball on black", || {
        let picture = screen.window().and_then(|window| screen.picture(window));
        picture.is_some_and(|(dark, bright, size)| dark < 50 && bright > 200 && size == (160, 90))
    });
    screen.close(screen.window().unwrap());
    run.ends(0);
    let log = run.log();
    assert!(log.contains("display: Output window was closed") && log.contains("the stream ends"), "{log}");
    let report = std::fs::read_to_string(place.path("r.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["inputs"][0]["output"], "display");
}

#[test]
fn the_other_outputs_go_on_without_the_window() {
    let Some(screen) = Screen::start() else { return };
    for (other, ends) in [("x.mkv", "-o x.mkv"), ("events", "-o events:e.jsonl")] {
        let (place, port) = (Place::new(), free_port());
        let mut run = screen.run(&place, &format!("-o display: {ends} --http {port}"));
        until("there is a window", || screen.window().is_some());
        let up = || metric(port, "oodstream_output_up{stream=\"test\",output=\"display\"}");
        until("it is up", || up() == 1.0);
        screen.close(screen.window().unwrap());
        until("it is closed", || up() == 0.0);
        goes_on(port, "test");
        assert!(http(port, "GET", "/healthz").1.contains("degraded"), "{other}");
        assert!(screen.window().is_none());
        run.stop(130);
        assert!(other != "x.mkv" || decoded(&place.path("x.mkv")) > 25);
    }
}

#[test]
fn a_recording_outlives_the_x_server() {
    let Some(mut screen) = Screen::start() else { return };
    let (place, port) = (Place::new(), free_port());
    let mut run = screen.run(&place, &format!("-o display: -o x.mkv --http {port}"));
    let up = || metric(port, "oodstream_output_up{stream=\"test\",output=\"display\"}");
    until("there is a window", || screen.window().is_some() && up() == 1.0);
    screen.end();
    until("the window is lost", || up() == 0.0);
    goes_on(port, "test");
    run.stop(130);
    assert!(run.log().contains("display: the X server has ended"), "{}", run.log());
    assert!(decoded(&place.path("x.mkv")) > 25);
}

#[test]
fn a_window_that_is_lost_is_an_error_where_it_is_the_only_output() {
    let Some(mut screen) = Screen::start() else { return };
    let place = Place::new();
    let mut run = screen.run(&place, "-o display:");
    until("there is a window", || screen.window().is_some_and(|window| screen.picture(window).is_some()));
    screen.end();
    run.ends(1);
    assert!(run.log().contains("error: test: display: the X server has ended"), "{}", run.log());
}

#[test]
fn a_window_that_somebody_destroys_comes_back() {
    let Some(screen) = Screen::start() else { return };
    let (place, port) = (Place::new(), free_port());
    let mut run = screen.run(&place, &format!("-o display: -o x.mkv --http {port}"));
    let shown = || screen.window().filter(|window| screen.picture(*window).is_some());
    until("there is a window", || shown().is_some());
    let first = shown().unwrap();
    screen.client.destroy_window(first).unwrap().check().unwrap();
    until("it is missed", || metric(port, "oodstream_output_restarts_total{stream=\"test\",output=\"display\"}") > 0.0);
    until("there is another one", || shown().is_some());
    goes_on(port, "test");
    run.stop(130);
    assert!(run.log().contains("display: the X server does not take its pictures"), "{}", run.log());
    assert!(decoded(&place.path("x.mkv")) > 25);
}

#[test]
fn a_display_that_is_not_there_is_told_at_once() {
    let place = Place::new();
    let mut program = place.program();
    program.env("DISPLAY", ":4711").env_remove("WAYLAND_DISPLAY");
    let mut run = Live::start_with(&place, program, "run test://ball?live=1 -o display:");
    run.ends(1);
    assert!(run.log().contains("display: no window can be opened on DISPLAY=:4711"), "{}", run.log());
}
