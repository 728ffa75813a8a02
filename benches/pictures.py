"""A JPEG to what is known of it: our features beside those of OpenCV-Python and beside whylogs's image logging, taking turns.

Every contestant is a process of its own that is told how often to read the picture. What counts is the processor time of all its
threads (/proc/PID/task/*/schedstat), and the ratios are medians over turns in which all of them met the same weather. Memory is the
largest resident set (VmHWM), for Python with the interpreter and what it imports: what somebody pays who runs it beside his cameras.
"""

import pathlib
import statistics
import subprocess
import sys

TURNS = 25
# Name, how often in a turn (about as long each), and the least that our own speed is to be of it.
CONTESTANTS = [
    ("ours", 24, None),
    ("opencv", 2, 10.0),
    ("opencv at a quarter", 12, 1.8),
    ("whylogs", 2, 8.0),
]


def opencv(flags):
    """What is usually computed of a camera picture with OpenCV: two dozen lines that everybody writes."""
    import cv2
    import numpy

    cv2.setNumThreads(1)

    def measure(jpeg):
        picture = cv2.imdecode(numpy.frombuffer(jpeg, numpy.uint8), flags(cv2))
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
        hue, saturation, value = (cv2.calcHist([hsv], [channel], None, [bins], [0, bins]) for channel, bins in enumerate((180, 256, 256)))
        mean, deviation = cv2.meanStdDev(grey)
        luma = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel() / grey.size
        entropy = -(luma[luma > 0] * numpy.log2(luma[luma > 0])).sum()
        dark, bright = luma[:8].sum(), luma[248:].sum()
        edges = cv2.Canny(grey, 100, 200).mean()
        sharpness = cv2.Laplacian(grey, cv2.CV_64F).var()
        blue, green, red = cv2.split(picture.astype(numpy.float32))
        red_green, yellow_blue = red - green, (red + green) / 2 - blue
        colourfulness = numpy.hypot(red_green.std(), yellow_blue.std()) + 0.3 * numpy.hypot(red_green.mean(), yellow_blue.mean())
        small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
        difference_hash = small[:, 1:] > small[:, :-1]
        return mean, deviation, entropy, dark, bright, hue, saturation, value, edges, sharpness, colourfulness, difference_hash

    return measure


def whylogs():
    """whylogs's own image metric: size, mode, and mean and deviation of hue, saturation and brightness."""
    import io

    import PIL.Image
    from whylogs.extras.image_metric import log_image

    return lambda jpeg: log_image(PIL.Image.open(io.BytesIO(jpeg)))


def work(name, path):
    measure = {
        "opencv": lambda: opencv(lambda cv2: cv2.IMREAD_COLOR),
        "opencv at a quarter": lambda: opencv(lambda cv2: cv2.IMREAD_REDUCED_COLOR_4),
        "whylogs": whylogs,
    }[name]()
    jpeg = pathlib.Path(path).read_bytes()
    for line in sys.stdin:
        for _ in range(int(line)):
            measure(jpeg)
        print("done", flush=True)


class Contestant:
    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def processor(self):
        """Seconds of processor time so far, of all threads."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def run(self, times):
        """Seconds of processor time for one picture."""
        before = self.processor()
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            sys.exit(f"{self.name} ended early")
        return (self.processor() - before) / times

    def peak(self):
        """Largest resident set, in megabytes of a million bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6


def main():
    if sys.argv[1] == "work":
        return work(*sys.argv[2:])
    program, picture = sys.argv[1:]
    contestants = [
        Contestant(name, [program, "-", picture] if name == "ours" else [sys.executable, __file__, "work", name, picture])
        for name, *_ in CONTESTANTS
    ]
    for contestant in contestants:
        contestant.run(2)
    turns = [[contestant.run(times) for contestant, (_, times, _) in zip(contestants, CONTESTANTS)] for _ in range(TURNS)]
    too_slow = False
    for column, (contestant, (name, _, goal)) in enumerate(zip(contestants, CONTESTANTS)):
        seconds = statistics.median(turn[column] for turn in turns)
        line = f"{name:<20} {seconds * 1e3:7.2f} ms a picture, peak {contestant.peak():6.1f} MB"
        if goal is not None:
            ratio = statistics.median(turn[column] / turn[0] for turn in turns)
            line += f"; {ratio:.2f} times ours, {contestant.peak() / contestants[0].peak():.0f} times its memory; goal {goal} times"
            too_slow |= ratio < goal
        print(line)
    print(f"({pathlib.Path(picture).name}, processor time, medians of {TURNS} turns)")
    return "a ratio misses its goal" if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
