"""tritonclient against MLServer, over HTTP and gRPC, directly and through the sidecar: nobody may notice, and the sidecar must learn."""

import base64
import io
import json
import queue
import subprocess
import sys
import threading
import time
import urllib.request

import numpy
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from PIL import Image

SIDECAR, HTTP, GRPC = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
CLASSES = 'classes = ["dark", "bright"]'


class Sidecar:
    def __init__(self, listen, upstream):
        settings = f'listen = "127.0.0.1:{listen}", upstream = "127.0.0.1:{upstream}", {CLASSES}'
        self.process = subprocess.Popen([SIDECAR, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True).start()

    def learned(self):
        return json.loads(self.lines.get(timeout=30))

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=30) == 0
        time.sleep(0.2)
        assert self.lines.empty(), "it learned of something that was no inference"


def wait_for(what, seconds=90):
    end = time.time() + seconds
    while True:
        try:
            if what():
                return
        except Exception as error:  # whatever it is, it may pass
            last = error
        else:
            last = "not yet"
        assert time.time() < end, last
        time.sleep(0.2)


def jpeg(level):
    noise = numpy.random.default_rng(7).integers(-10, 10, (240, 320, 3))
    bytes_ = io.BytesIO()
    Image.fromarray(numpy.clip(level + noise, 0, 255).astype(numpy.uint8)).save(bytes_, "JPEG")
    return bytes_.getvalue()


def near(learned, level, label):
    assert learned["what"] == "Ready", learned
    assert abs(learned["luma_mean"] - level) < 3, learned
    assert learned["labels"] == [label], learned
    assert abs(learned["confidence"] - max(level / 255, 1 - level / 255)) < 0.02, learned
    assert learned["model"] == "brightness@v2.1", learned
    assert learned["latency_ms"] > 0, learned


def inputs(module, array, datatype, binary=None):
    given = module.InferInput("picture", list(array.shape), datatype)
    if binary is None:
        given.set_data_from_numpy(array)
    else:
        given.set_data_from_numpy(array, binary_data=binary)
    return [given]


def raw_http(port, path, body, headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status, sorted((k.lower(), v) for k, v in answer.headers.items() if k.lower() != "date"), answer.read()


def http(direct_port, port, sidecar):
    direct, through = (over_http.InferenceServerClient(f"127.0.0.1:{p}") for p in (direct_port, port))
    assert through.is_server_live() and through.is_model_ready("brightness")
    assert direct.get_model_metadata("brightness") == through.get_model_metadata("brightness")
    picture = jpeg(200)
    text = json.dumps({"id": "a", "inputs": [{"name": "picture", "shape": [1], "datatype": "BYTES",
                      "parameters": {"content_type": "base64"}, "data": [base64.b64encode(picture).decode()]}]}).encode()
    asked = ("/v2/models/brightness/infer", text, {"Content-Type": "application/json"})
    answers = [raw_http(p, *asked) for p in (direct_port, port)]
    assert answers[0] == answers[1], answers
    near(sidecar.learned(), 200, "bright")
    print("http: base64 JPEG in JSON, every byte of the answer and its header the same")
    for array, datatype, level, label in [
        (numpy.full((1, 64, 48, 3), 30, numpy.uint8), "UINT8", 30, "dark"),
        (numpy.full((1, 3, 224, 224), 0.25, numpy.float32), "FP32", 63.75, "dark"),
        (numpy.full((1, 3, 640, 640), 0.75, numpy.float32), "FP32", 191.25, "bright"),
    ]:
        results = [c.infer("brightness", inputs(over_http, array, datatype, False), request_id="b") for c in (direct, through)]
        assert results[0].get_response() == results[1].get_response()
        assert numpy.array_equal(results[0].as_numpy("scores"), results[1].as_numpy("scores"))
        near(sidecar.learned(), level, label)
        # MLServer refuses binary tensors over HTTP; the refusal has to pass, and the picture is there all the same.
        refusals = []
        for client in (direct, through):
            try:
                client.infer("brightness", inputs(over_http, array, datatype, True), request_id="b")
            except over_http.InferenceServerException as error:
                refusals.append(str(error))
        assert len(refusals) == 2 and refusals[0] == refusals[1], refusals
        learned = sidecar.learned()
        assert learned["what"] == "Ready" and learned["labels"] is None and abs(learned["luma_mean"] - level) < 3, learned
        print(f"http: {datatype} {array.shape} ({array.nbytes} bytes) as JSON, and a refusal of the same as binary tensor")
    for client in (direct, through):
        try:
            client.infer("no-such-model", inputs(over_http, array, datatype, True))
            raise AssertionError("an error was expected")
        except over_http.InferenceServerException as error:
            print("http: error passes:", error)
    # Its request was looked at: the picture is there, and nothing was said of it.
    learned = sidecar.learned()
    assert learned["what"] == "Ready" and learned["labels"] is None, learned


def grpc(direct_port, port, sidecar):
    large = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    direct, through = (over_grpc.InferenceServerClient(f"127.0.0.1:{p}", channel_args=large) for p in (direct_port, port))
    assert through.is_server_live() and through.is_model_ready("brightness")
    assert direct.get_model_metadata("brightness") == through.get_model_metadata("brightness")
    picture = jpeg(90)
    for array, datatype, level, label in [
        (numpy.array([picture], dtype=numpy.object_), "BYTES", 90, "dark"),
        (numpy.full((1, 64, 48, 3), 220, numpy.uint8), "UINT8", 220, "bright"),
        (numpy.full((1, 3, 640, 480), 0.75, numpy.float32), "FP32", 191.25, "bright"),
    ]:
        results = [c.infer("brightness", inputs(over_grpc, array, datatype), request_id="c") for c in (direct, through)]
        serialized = [r.get_response().SerializeToString(deterministic=True) for r in results]
        assert serialized[0] == serialized[1]
        near(sidecar.learned(), level, label)
        print(f"grpc: {datatype} {array.shape}, every byte of the answer the same")
    waiting = [through.async_infer("brightness", inputs(over_grpc, array, datatype), callback=lambda **_: None) for _ in range(3)]
    for call in waiting:
        call.get_result() if hasattr(call, "get_result") else None
    for _ in waiting:
        near(sidecar.learned(), level, label)
    print("grpc: three at once on one connection")
    for client in (direct, through):
        try:
            client.infer("no-such-model", inputs(over_grpc, array, datatype))
            raise AssertionError("an error was expected")
        except over_grpc.InferenceServerException as error:
            print("grpc: error passes:", error)
    learned = sidecar.learned()
    assert learned["what"] == "Ready" and learned["labels"] is None, learned


def ready(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/brightness/ready") as answer:
        return answer.status == 200


wait_for(lambda: ready(HTTP))
for scenario, upstream in ((http, HTTP), (grpc, GRPC)):
    listen = upstream + 100
    sidecar = Sidecar(listen, upstream)
    probe = over_http if scenario is http else over_grpc
    wait_for(lambda: probe.InferenceServerClient(f"127.0.0.1:{listen}").is_server_live(), 30)
    scenario(upstream, listen, sidecar)
    sidecar.end()
print("all passed")
