#!/usr/bin/env python3
"""Measures live inputs and servers against the pretended peers of ../shared/inputs/live.

    scripts/cameras.py cameras [--program PATH] [--only WORD]    time to the first picture, frames of 250, logins
    scripts/cameras.py peers [--program PATH] [--only S1]        what hostile peers reach

`cameras` prints each kind of camera beside ffmpeg on the same one, for ten seconds from the first connection; `peers` a
row for each thing that a hostile peer does. Both print Markdown, as in docs/performance.md. They need ffmpeg, and run
the program of target/release with its default model, or that of OODSTREAM_MODEL.
"""

import argparse
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OODSTREAM_SHARED", ROOT.parent / "shared")) / "inputs" / "live"
UNKNOWN = ["m=video 0 RTP/AVP 97", "a=rtpmap:97 AV2/90000", "a=control:trackID=0"]

# Name, options of the camera, transport, login.
CAMERAS = [
    ("plain, TCP", {}, "tcp", ""),
    ("1 group of 20 s", {"file": "gop500.h264"}, "tcp", ""),
    ("1 H.265, parameter sets in band", {"file": "gop500.h265", "sprop": False}, "tcp", ""),
    ("1 burst of a group at the start", {"file": "gop500.h264", "burst": 150}, "tcp", ""),
    ("2 intra refresh, joined late", {"file": "intrarefresh.h264", "start": 30}, "tcp", ""),
    ("2 intra refresh without SEI, late", {"file": "intrarefresh.h264", "start": 30, "no_sei": True}, "tcp", ""),
    ("2 open group, joined late", {"file": "opengop.h264", "start": 10}, "tcp", ""),
    ("2 UDP, 1 % loss, group of 20 s", {"file": "gop500.h264", "loss": 0.01}, "udp", ""),
    ("3 auto, SETUP answers 461", {"transports": ("tcp",), "transport_code": 461}, "auto", ""),
    ("3 auto, SETUP answers 404", {"transports": ("tcp",), "transport_code": 404}, "auto", ""),
    ("3 [::1] with c=IN IP4", {"host": "::1"}, "auto", ""),
    ("3 auto, 20 % loss", {"loss": 0.2}, "auto", ""),
    ("4 a marker on each slice", {"file": "slices4.h264", "marker": "nal"}, "tcp", ""),
    ("5 a new SSRC with each group", {"ssrc_per_gop": True}, "tcp", ""),
    ("5 a new SSRC once", {"ssrc_at": 50}, "tcp", ""),
    ("6 session time-out of 4 s", {"timeout": 4}, "tcp", ""),
    ("7 wrong password", {"auth": "md5", "user": "u", "password": "right"}, "tcp", "u:wrongpass@"),
    ("8 Digest with enforced qop", {"auth": "md5-qop", "qop_strict": True, "user": "u", "password": "right"}, "tcp", "u:right@"),
    ("8 unknown codec first", {"tracks_before": UNKNOWN, "video_url": "trackID=1"}, "tcp", ""),
    ("8 0.25 frames a second", {"file": "jpg", "fps": 0.25}, "tcp", ""),
    ("9 junk between packets", {"junk": (0.05, 7)}, "tcp", ""),
    ("9 SETUP without interleaved=", {"no_interleaved": True}, "tcp", ""),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path, timeout=1.0):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except OSError:
        return 0, ""


def metric(text, name):
    return sum(float(v) for v in re.findall(rf"^oodstream_{name}(?:_total)?\{{[^}}]*\}} ([0-9.e+]+)", text, re.M))


class Run:
    """The program at work, its log in a file of its own."""

    def __init__(self, program, arguments, limit=None, cwd=None):
        def limited():
            if limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        self.log = tempfile.NamedTemporaryFile("r", suffix=".log")
        self.process = subprocess.Popen(
            [program, "run", *arguments], stdout=subprocess.DEVNULL, stderr=open(self.log.name, "w"),
            preexec_fn=limited, cwd=cwd,
        )

    def must_run(self):
        """Nothing is measured where the program has ended by itself."""
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} ended with {self.process.returncode}:\n{self.said()}")

    def said(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", Path(self.log.name).read_text(errors="replace"))

    def peak_mb(self):
        try:
            return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) // 1024
        except (OSError, TypeError):
            return -1

    def end(self):
        self.process.terminate()
        self.process.wait()


def first_connection(cam):
    return next((cam.t0 + t for t, text in cam.log if text.startswith("connect")), None)


def ours(fakecam, program, options, transport, login, seconds):
    cam, port = fakecam.Cam(dict(options)), free_port()
    run = Run(program, [cam.url(login), "-o", "none", "--transport", transport, "--http", str(port)])
    begin, first, frames, end = None, None, 0.0, time.time() + seconds + 10
    while time.time() < end and run.process.poll() is None:
        begin = begin or first_connection(cam)
        if begin and time.time() > begin + seconds:
            break
        frames = max(frames, metric(get(port, "/metrics")[1], "frames_in"))
        if frames and first is None:
            first = time.time()
        time.sleep(0.05)
    run.must_run()
    run.end()
    logins = sum(" Auth=" in text for _, text in cam.log)
    cam.close()
    return (first - begin if first and begin else None), int(frames), logins


def ffmpeg(fakecam, options, transport, login, seconds):
    cam = fakecam.Cam(dict(options))
    over = [] if transport == "auto" else ["-rtsp_transport", transport]
    command = ["ffmpeg", "-nostdin", "-loglevel", "quiet", *over, "-i", cam.url(login), "-an", "-f", "framecrc",
               "-flush_packets", "1", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    seen = []
    reader = threading.Thread(
        target=lambda: [seen.append(time.time()) for line in process.stdout if not line.startswith(b"#")], daemon=True)
    reader.start()
    begin, end = None, time.time() + seconds + 5
    while time.time() < end and process.poll() is None:
        begin = begin or first_connection(cam)
        if begin and time.time() > begin + seconds:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    cam.close()
    return (seen[0] - begin if seen and begin else None), len(seen)


def cameras(fakecam, program, only, seconds=10):
    print(f"| camera | first picture | frames of {25 * seconds} | logins | ffmpeg: first | frames |\n|---|---|---|---|---|---|")
    shown = lambda s: "none" if s is None else f"{s:.1f} s"
    for name, options, transport, login in CAMERAS:
        if only and only not in name:
            continue
        first, frames, logins = ours(fakecam, program, options, transport, login, seconds)
        theirs, count = ffmpeg(fakecam, options, transport, login, seconds)
        print(f"| {name} | {shown(first)} | {frames} | {logins} | {shown(theirs)} | {count} |", flush=True)
    if not only or only in "wrong password":
        options = {"auth": "md5", "user": "u", "password": "right"}
        tried = ours(fakecam, program, options, "tcp", "u:wrong@", 60)[2]
        print(f"\nTries of a wrong password in 60 s: {tried}")


def served(program, users=None, limit=None, more=(), cwd=None):
    rtsp, http = free_port(), free_port()
    arguments = ["test://ball?live=1&width=160&height=90", "-o", f"rtsp://127.0.0.1:{rtsp}/x", "--http", str(http), *more]
    if users:
        arguments += ["--set", f'serve.users="{users}"']
    run, end = Run(program, arguments, limit, cwd), time.time() + 30
    # Until memory has its final size: the network has its buffers after the first frames.
    while metric(get(http, "/metrics")[1], "frames_out") < 20 and time.time() < end:
        run.must_run()
        time.sleep(0.1)
    return run, rtsp, http


def pour(port, head, piece, most):
    """Sends up to `most` MB behind `head`; gives how many were taken."""
    taken = 0
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(3)
        try:
            s.sendall(head)
            while taken < most:
                s.sendall(piece)
                taken += 1
        except OSError:
            pass
    time.sleep(0.5)
    return taken


def endless(web, begin, piece):
    def answer(c, path, headers, server):
        try:
            c.sendall(begin)
            for _ in range(1500):
                c.sendall(piece)
        except OSError:
            pass
        return False

    return web.Web(answer)


def s1(program, cam, web, folder):
    run, rtsp, _ = served(program)
    before = run.peak_mb()
    body = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 600000000\r\n\r\n"
    taken = pour(rtsp, body, b"x" * 1048576, 600)
    yield "S1", "body of 600 MB sent to the RTSP server", f"{taken} MB taken, RSS {before} -> {run.peak_mb()} MB"
    taken = pour(rtsp, b"OPTIONS * RTSP/1.0\r\n", b"X-Header: value\r\n" * 65536, 200)
    yield "S8", "endless header sent to the RTSP server", f"{taken} MB taken, RSS {run.peak_mb()} MB"
    run.end()


def s2(program, cam, web, folder):
    run, rtsp, http = served(program, limit=1024, more=["-o", "x-%Y%m%d-%H%M%S.mkv", "-o", "hls:h"], cwd=folder)
    clients = []
    for _ in range(1000):
        try:
            clients.append(socket.create_connection(("127.0.0.1", rtsp), timeout=0.5))
        except OSError:
            pass
    begin = time.time()
    status, _ = get(http, "/healthz", 10)
    healthz = time.time() - begin
    cpu = lambda: sum(map(int, Path(f"/proc/{run.process.pid}/stat").read_text().split()[13:15])) / 100
    size = lambda: sum(f.stat().st_size for f in Path(folder).iterdir() if "x-" in f.name)
    hls, used, written = Path(folder, "h").stat().st_mtime, cpu(), size()
    time.sleep(6)
    grown, segments = (size() - written) // 1024, "yes" if Path(folder, "h").stat().st_mtime > hls else "no"
    held = len(os.listdir(f"/proc/{run.process.pid}/fd"))
    yield "S2", "1,000 connections, RLIMIT 1024", (
        f"/healthz {status} in {healthz:.2f} s; in 6 s the recording grew by {grown} KB, HLS went on: {segments}, "
        f"CPU {cpu() - used:.1f} s; {held} descriptors")
    for client in clients:
        client.close()
    run.end()


def s3(program, cam, web, folder):
    target = web.Web(web.auth("basic", "u", "secretpw", web.mjpeg()))
    to = f"Location: {target.url('/x?token=abcdef', 'evil:password@')}\r\n"
    moved = web.Web(lambda c, path, headers, server: web.resp(c, 302, "Found", extra=to))
    run = Run(program, [moved.url("/", "u:secretpw@"), "-o", "none"])
    time.sleep(5)
    run.end()
    leaked = sum("Auth=" in text for _, text in target.log)
    yield "S3", "HTTP redirection to another server", f"{leaked} logins sent there, {len(target.log)} requests"
    yield "S9", "secrets of its `Location` in the log", str(sum(run.said().count(s) for s in ("abcdef", "evil:password")))
    target = cam.Cam({"auth": "basic", "user": "u", "password": "secretpw"})
    moved = cam.Cam({"redirect": target.url()})
    run = Run(program, [moved.url("u:secretpw@"), "-o", "none"])
    time.sleep(5)
    run.end()
    yield "S3", "RTSP 302 to another server", f"{sum(' Auth=' in text for _, text in target.log)} logins sent there"


def s4(program, cam, web, folder):
    run, _, http = served(program)
    clients = []
    for _ in range(32):
        client = socket.create_connection(("127.0.0.1", http))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        clients.append(client)
        try:
            for _ in range(2000):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        except OSError:
            pass
    begin = time.time()
    status, _ = get(http, "/healthz", 100)
    yield "S4", "32 readers that never read", f"/healthz answers {status} after {time.time() - begin:.2f} s"
    run.end()


def s5(program, cam, web, folder):
    jpeg = bytearray(web.JP[0])
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5:at + 9] = b"\x75\x30\x75\x30"
    server = web.Web(web.mjpeg(frames=[bytes(jpeg)]))
    run = Run(program, [server.url(), "-o", "none"])
    time.sleep(7)
    yield "S5", "JPEG header of 30000x30000", f"RSS {run.peak_mb()} MB"
    run.end()


def s6(program, cam, web, folder):
    victim = Path(folder, "victim")
    for kind, link in [("symbolic", os.symlink), ("hard", os.link)]:
        victim.write_text("precious")
        part = Path(folder, ".x.mkv.part")
        part.unlink(missing_ok=True)
        link(victim, part)
        run = Run(program, ["test://ball?live=1&width=160&height=90", "-o", "x.mkv", "--overwrite"], cwd=folder)
        time.sleep(5)
        run.end()
        yield "S6", f"{kind} link at a `.part` name", f"its target had 8 bytes and has {victim.stat().st_size}"


def s7(program, cam, web, folder):
    begin = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"
    for what, server in [
        ("MJPEG part without an end", endless(web, begin, b"\xff\xd8" + b"a" * 1000000)),
        ("HTTP header without an end", endless(web, b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 65536)),
        ("playlist without an end", endless(web, b"HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n", b"#EXTINF:1,\ns.ts\n" * 65536)),
    ]:
        run = Run(program, [server.url(), "-o", "none"])
        time.sleep(7)
        yield "S7", what, f"RSS {run.peak_mb()} MB"
        run.end()
        server.close()


def s8(program, cam, web, folder):
    def hook(server, st, method, url, headers):
        if method != "DESCRIBE":
            return None
        head = f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq')}\r\nContent-Type: application/sdp\r\nContent-Length: 700000000\r\n\r\n"
        try:
            st["c"].sendall(head.encode())
            for _ in range(700):
                st["c"].sendall(b"a" * 1000000)
        except OSError:
            pass
        return False

    camera = cam.Cam({"hook": hook})
    run = Run(program, [camera.url(), "-o", "none"])
    time.sleep(7)
    yield "S8", "DESCRIBE with a body of 700 MB", f"RSS {run.peak_mb()} MB"
    run.end()


def s10(program, cam, web, folder):
    secret = Path(folder, "secret.ts")
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2", "-c:v",
                    "libx264", "-pix_fmt", "yuv420p", str(secret)], check=True)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    server = web.Web(lambda c, path, headers, w: web.resp(c, 200, "OK", text))
    port = free_port()
    run = Run(program, [server.url("/live.m3u8"), "-o", "none", "--http", str(port)])
    time.sleep(6)
    frames = metric(get(port, "/metrics")[1], "frames_in")
    yield "S10", "playlist that names file:///", f"{frames:.0f} frames of the file shown"
    run.end()


def s11(program, cam, web, folder):
    users = Path(folder, "users")
    users.write_text("ann:secret\n")
    run, rtsp, _ = served(program, users=users)

    def status(path):
        with socket.create_connection(("127.0.0.1", rtsp), timeout=2) as s:
            s.sendall(f"DESCRIBE rtsp://127.0.0.1:{rtsp}/{path} RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic YW5uOndyb25n\r\n\r\n".encode())
            return s.recv(200)[9:12].decode()

    known, unknown = status("x"), status("nothing")
    begin, answered = time.time(), 0
    while time.time() < begin + 5:
        try:
            answered += status("x") != ""
        except OSError:
            pass
    lines = run.said().count("was refused")
    yield "S11", "passwords tried for 5 s", (
        f"{answered} answered; known path {known}, unknown path {unknown}; {lines} line in the log")
    run.end()


def s12(program, cam, web, folder):
    config = Path(folder, "p.toml")
    config.write_text("[detect]\nthreshold = 1e9\n")
    run, _, http = served(program, more=["-c", str(config)])
    codes = []
    for headers in ["Host: localhost", "Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example"]:
        with socket.create_connection(("127.0.0.1", http)) as s:
            s.sendall(f"POST /reload HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            codes.append(s.recv(100)[9:12].decode())
    yield "S12", "POST /reload: own, foreign Host, foreign Origin", ", ".join(codes)
    run.end()


def s13(program, cam, web, folder):
    run, _, http = served(program, more=["-o", 'hls:a"b\\c'], cwd=folder)
    lines = [line for line in get(http, "/metrics")[1].splitlines() if "{" in line and not line.startswith("#")]
    label = r'[a-z_]+="(?:[^"\\]|\\[\\"n])*"'
    whole = re.compile(rf"[a-z_]+\{{{label}(?:,{label})*\}} [-+.\w]+")
    broken = sum(not whole.fullmatch(line) for line in lines)
    run.end()
    yield "S13", 'an output named `hls:a"b\\c`', f"{broken} of {len(lines)} lines of /metrics malformed"
    config = Path(folder, "p.toml")
    config.write_text('[[stream]]\nname = ".."\ninput = "test://ball?live=1"\noutput = ["hls:h/{name}"]\n')
    named = Run(program, ["-c", str(config)], cwd=folder)
    time.sleep(3)
    code = named.process.poll()
    named.process.terminate()
    named.process.wait()
    yield "S13", "a stream named `..`", "it runs" if code is None else f"exit code {code}"


def peers(fakecam, program, only):
    import fakehttp

    print("| row | what the peer does | result |\n|---|---|---|")
    for measure in [s1, s2, s3, s4, s5, s6, s7, s8, s10, s11, s12, s13]:
        if only and measure.__name__ != only.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(program, fakecam, fakehttp, folder):
                print(f"| {' | '.join(row)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cameras", "peers"])
    parser.add_argument("--program", default=str(ROOT / "target" / "release" / "oodstream"))
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: {SHARED} is not there")
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, "live")
        shutil.copytree(SHARED, copied)
        subprocess.run(["chmod", "-R", "u+w", str(copied)], check=True)
        subprocess.run(["bash", str(copied / "make_assets.sh")], check=True)
        sys.path.insert(0, str(copied))
        import fakecam

        {"cameras": cameras, "peers": peers}[arguments.what](fakecam, arguments.program, arguments.only)


if __name__ == "__main__":
    main()
