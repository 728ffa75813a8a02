#!/usr/bin/env python3
"""What an agent costs its host: real processes, a camera of 1080p over HTTP, an aggregator that takes what is sent.

usage: guest.py PROGRAMS [--agent FILE] [--seconds N] [--frames N] [--rate N] [--picture FILE]

Prints memory and processor time beside what each is held against, and fails where one is beyond it. Memory is the peak of the resident
set (VmHWM); growth is the resident set after a quarter of the frames against that after the last.
"""

import argparse
import base64
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

FRAME = pathlib.Path(__file__).parent / "frames" / "1080p-420.jpg"
TICKS = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1_000_000


def until(what, look, limit=60):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    sys.exit(f"after {limit} s still not: {what}")


class Camera:
    """Serves one picture as MJPEG, over and over, at a rate."""

    def __init__(self, rate, picture=FRAME):
        picture = picture.read_bytes()
        self.part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(picture), picture)
        self.rate, self.sent, self.ended = rate, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.source = 'kind = "mjpeg", url = "http://127.0.0.1:%d/"' % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while not self.ended:
            stream, _ = self.listener.accept()
            try:
                stream.recv(4096)
                stream.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n")
                due = time.monotonic()
                while not self.ended:
                    stream.sendall(self.part)
                    self.sent += 1
                    due += 1 / self.rate
                    time.sleep(max(0, due - time.monotonic()))
            except OSError:
                pass  # The agent went.
            finally:
                stream.close()


class Model:
    """A model server, and a client that asks it about one picture through the agent, at a rate."""

    def __init__(self, rate):
        picture = base64.b64encode(FRAME.read_bytes()).decode()
        tensor = {"name": "i", "shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}, "data": [picture]}
        self.question, self.rate, self.sent, self.ended = json.dumps({"inputs": [tensor]}), rate, 0, False
        answer = b'{"outputs": [{"name": "p", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]}'

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.listen = "127.0.0.1:%d" % free.getsockname()[1]
        self.source = f'kind = "inference", listen = "{self.listen}", upstream = "127.0.0.1:{self.server.server_port}"'
        threading.Thread(target=self.ask, daemon=True).start()

    def ask(self):
        due = time.monotonic()
        while not self.ended:
            connection = http.client.HTTPConnection(self.listen, timeout=10)
            try:
                while not self.ended:
                    connection.request("POST", "/v2/models/m/infer", self.question)
                    self.sent += len(connection.getresponse().read()) > 0
                    due += 1 / self.rate
                    time.sleep(max(0, due - time.monotonic()))
            except OSError:
                time.sleep(0.1)  # The agent is not there yet, or went.
            finally:
                connection.close()


class Agent:
    """An enrolled agent that watches these cameras."""

    def __init__(self, bench, cameras):
        self.cameras = cameras
        text = bench.settings + "".join(
            f'[[camera]]\nname = "c{number}"\nsource = {{ {camera.source} }}\n' for number, camera in enumerate(cameras)
        )
        bench.config.write_text(text)
        self.process = subprocess.Popen(
            [bench.agent, "run", "--config", bench.config], stdout=subprocess.DEVNULL, stderr=bench.log
        )
        until("frames", lambda: all(camera.sent > 1 for camera in cameras))

    def child(self):
        """The agent beneath the process that passes inferences on."""
        pid = self.process.pid
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def memory(self, field, pid=None):
        for line in pathlib.Path(f"/proc/{pid or self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise KeyError(field)

    def seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        for camera in self.cameras:
            camera.ended = True
        self.process.terminate()
        if self.process.wait(timeout=30) != 0:
            sys.exit("the agent failed; its log is above")


class Bench:
    def __init__(self, programs, agent, root):
        self.agent, self.root = agent, root
        self.log = (root / "log").open("w+")
        data, state, self.config = root / "aggregator", root / "agent", root / "agent.toml"
        config = root / "aggregator.toml"
        config.write_text(
            f'data_dir = "{data}"\n[quic]\nlisten = "127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'
        )
        self.aggregator = subprocess.Popen(
            [programs / "driftglass-aggregator", "serve", "--config", config], stdout=self.log, stderr=self.log
        )
        announced = data / "addresses.json"
        until("an aggregator", lambda: announced.exists() and announced.stat().st_size)
        addresses = json.loads(announced.read_text())
        self.settings = (
            f'site = "bench"\ndevice = "gw"\nstate_dir = "{state}"\n[aggregator]\naddress = "{addresses["quic"]}"\n'
            '[window]\nlength = "5s"\n[telemetry]\nlisten = "127.0.0.1:0"\n'
        )
        self.config.write_text(self.settings)
        server = f"http://{addresses['http']}"
        token = [programs / "driftglass", "token", "create", "--site", "bench", "--device", "gw", "--server", server]
        token = subprocess.run(token, check=True, capture_output=True, text=True).stdout.strip()
        enrol = [agent, "enroll", "--config", self.config, "--aggregator", addresses["quic"], "--token", token]
        subprocess.run(enrol, check=True, capture_output=True)


def line(what, figure, unit, limit, good):
    ratio = figure / limit
    print(f"{what}: {figure:.2f} {unit}; limit {limit} {unit}, ratio {ratio:.2f}", flush=True)
    good.append(figure <= limit)


def measure(bench, seconds, frames, rate, picture):
    good = []
    for cameras, limit in [(1, 10), (4, 14)]:
        agent = Agent(bench, [Camera(5) for _ in range(cameras)])
        time.sleep(seconds)
        what = f"{cameras} camera{'s' if cameras > 1 else ''} of 1080p, 5 frames/s, {seconds} s: peak of resident memory"
        line(what, agent.memory("VmHWM") / MEGABYTE, "MB", limit, good)
        agent.stop()

    agent = Agent(bench, [Model(5)])
    time.sleep(seconds)
    what = f"1 model server, asked 5 times a second about 1080p, {seconds} s: peak of resident memory of the"
    line(f"{what} process that passes inferences on", agent.memory("VmHWM") / MEGABYTE, "MB", 8, good)
    line(f"{what} agent beneath it", agent.memory("VmHWM", agent.child()) / MEGABYTE, "MB", 14, good)
    agent.stop()

    camera = Camera(1)
    agent = Agent(bench, [camera])
    time.sleep(2)
    before, began = agent.seconds(), time.monotonic()
    time.sleep(max(seconds, 30))
    used = (agent.seconds() - before) / (time.monotonic() - began)
    line("1 camera of 1080p, 1 frame/s: share of a core", 100 * used, "%", 1, good)
    agent.stop()

    camera = Camera(rate, picture)
    agent = Agent(bench, [camera])
    until("a quarter of the frames", lambda: camera.sent >= frames // 4, limit=3600)
    quarter = agent.memory("VmRSS")
    until("the frames", lambda: camera.sent >= frames, limit=36000)
    grown = agent.memory("VmRSS") - quarter
    line(f"1 camera, {rate} frames/s of {picture.name}, growth over {frames * 3 // 4} frames", grown / MEGABYTE, "MB", 0.5, good)
    agent.stop()
    return all(good)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--agent", type=pathlib.Path, help="another agent than the one there")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--frames", type=int, default=2000, help="how many are sent to see whether memory grows")
    parser.add_argument("--rate", type=int, default=40, help="how many of them a second")
    parser.add_argument("--picture", type=pathlib.Path, default=FRAME, help="another picture for them")
    arguments = parser.parse_args()
    agent = arguments.agent or arguments.programs / "driftglass-agent"
    size = agent.stat().st_size / MEGABYTE
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(arguments.programs, agent, pathlib.Path(root))
        try:
            good = [measure(bench, arguments.seconds, arguments.frames, arguments.rate, arguments.picture)]
            line("the program itself", size, "MB", 4, good)
        finally:
            bench.aggregator.terminate()
            bench.aggregator.wait(timeout=30)
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
