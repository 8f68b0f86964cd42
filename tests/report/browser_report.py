"""The report in a real headless Chromium: marks counted against the data, hover, toggles, downloads, dark, phone, print, live, nasty text.
Usage: browser_report.py BUILD. Screenshots go to BUILD/report/. Needs Debian's chromium, chromium-driver, python3-selenium."""
import base64
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

try:
    from selenium import webdriver
except ImportError:
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):  # Debian's module belongs to Debian's Python
        os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])
    sys.exit("test-report: python3-selenium is missing; install the packages of the group report in tools/packages.txt")
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

BUILD = os.path.abspath(sys.argv[1])
PROGRAM = os.path.join(BUILD, "ghostmax")
SHOTS = os.path.join(BUILD, "report")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    sys.exit("test-report: chromium or chromedriver is missing; install the packages of the group report in tools/packages.txt")

LAYERS, HEADS, WIDTH, CONTEXT, SEEDS = 2, 2, 24, 24, 3
VARIANTS = ["softmax", "softmax1", "gated"]


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)


class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.makedirs(SHOTS, exist_ok=True)
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.lab = os.path.join(cls.folder, "lab")
        run("lab", "--data", "stories", "--model", "gpt2-nano", "--layers", LAYERS, "--heads", HEADS, "--width", WIDTH, "--variants", ",".join(VARIANTS),
            "--seeds", SEEDS, "--steps", 20, "--batch", 4, "--context", CONTEXT, "--eval-sequences", 8, "--measure-sequences", 4,
            "--calibration-batches", 2, "--sensitivity-sequences", 2, "--out", cls.lab, "--threads", 1, "--quiet")
        cls.page = os.path.join(cls.lab, "report.html")
        with open(cls.page) as f:
            cls.html = f.read()
        cls.data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', cls.html, re.S).group(1))
        cls.downloads = os.path.join(cls.folder, "downloads")
        os.mkdir(cls.downloads)
        options = Options()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--window-size=1280,900",
                         "--force-color-profile=srgb"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        cls.driver = webdriver.Chrome(service=Service(DRIVER), options=options)
        cls.addClassCleanup(cls.driver.quit)
        cls.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": cls.downloads})

    def setUp(self):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
        self.size(1280)
        self.open(self.page)

    def tearDown(self):
        self.assertEqual([e for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")], [])

    # ---- means

    def open(self, path):
        self.driver.get("file://" + path)

    def size(self, width, mobile=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile})

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def chart(self, key):
        found = self.driver.find_elements(By.CSS_SELECTOR, f'figure[data-chart="{key}"]')
        self.assertEqual(len(found), 1, key)
        return found[0]

    def count(self, key, what=".mark"):
        return len(self.chart(key).find_elements(By.CSS_SELECTOR, "svg " + what))

    def tip(self):
        return self.js("const t = document.querySelector('.tip'); return t && !t.hidden ? t.innerText : ''")

    def hover(self, element, dx=0, dy=0):
        """The tooltip over an element, or over what a function finds: a chart that is being drawn anew is another element a moment later."""
        find = element if callable(element) else lambda: element
        for _ in range(20):
            try:
                node = find()
                self.js("arguments[0].scrollIntoView({block: 'center'})", node)
                # From beside: a pointer that is there already does not move, and nothing is told.
                ActionChains(self.driver).move_to_element_with_offset(node, dx + 2, dy + 2).move_to_element_with_offset(node, dx, dy).perform()
            except StaleElementReferenceException:
                if node is element:
                    raise
            if self.tip():
                break
            time.sleep(0.1)
        return self.tip()

    def shot(self, name, clip=None):
        metrics = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = clip or {"x": 0, "y": 0, "width": metrics["width"], "height": metrics["height"]}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": {**clip, "scale": 1}})
        content = base64.b64decode(picture["data"])
        with open(os.path.join(SHOTS, name + ".png"), "wb") as f:
            f.write(content)
        self.assertGreater(len(content), 20000)
        return metrics

    def cut_labels(self):
        """What reaches over its picture's edge, where it would be cut off."""
        return self.js("""const cut = [];
            document.querySelectorAll('figure').forEach(f => f.querySelectorAll('svg text').forEach(t => {
                const b = t.getBoundingClientRect(), s = t.ownerSVGElement.getBoundingClientRect();
                if (b.width && (b.left < s.left - 1 || b.right > s.right + 1)) cut.push(f.dataset.chart + ': ' + t.textContent);
            })); return cut""")

    def touching_labels(self):
        return self.js("""const touching = [];
            document.querySelectorAll('figure').forEach(f => { const b = Array.from(f.querySelectorAll('svg text'), t => [t.textContent, t.getBoundingClientRect()]).filter(t => t[0] && t[1].width);
                b.forEach(([s, p], i) => b.slice(i + 1).forEach(([t, q]) => {
                    if (Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4) touching.push(f.dataset.chart + ': ' + s + ' | ' + t);
                })); }); return touching""")

    def press(self, selector):
        self.js("arguments[0].click()", self.driver.find_element(By.CSS_SELECTOR, selector))

    # ---- what is there

    def test_marks(self):
        group = self.data["groups"][0]
        runs, tokens = len(VARIANTS) * SEEDS, len(group["runs"][0]["sample"]["tokens"])
        self.assertEqual(tokens, CONTEXT)
        for field in ("loss", "val_loss", "grad_norm", "max_inf_norm", "avg_kurtosis", "sink_rate", "null_mass"):
            self.assertEqual((field, self.count(f"train-0-{field}"), self.count(f"train-0-{field}", ".mean")), (field, runs, len(VARIANTS)))
        for metric in (m for m in group["metrics"] if m["compared"]):
            key = f"paired-0-{metric['name']}"  # softmax has no difference to itself
            self.assertEqual((key, self.count(key), self.count(key, ".interval"), self.count(key, ".mean")), (key, 2 * SEEDS, 2, 2))
        for side in "ab":
            self.assertEqual(self.count(f"activations-0-{side}"), tokens)
            self.assertEqual(self.count(f"attention-0-{side}"), HEADS)
            self.assertEqual(self.count(f"attention-0-{side}", ".null-column"), HEADS)
            sampled = [r for r in group["runs"] if r.get("sample")]
            shown = self.js("return state.groups[0]")
            one = next(r for r in sampled if shown[side] == f"{r['model']}\n{r['variant']}\n{r['seed']}")
            levels = one["measure"]["levels"][f"blocks.{shown['layer']}.block"]
            self.assertEqual(self.count(f"levels-0-{side}"), sum(n > 0 for n in levels))
            self.assertEqual(self.count(f"levels-0-{side}", ".grid-level"), 255)
        for variant in VARIANTS:
            self.assertEqual(self.count(f"heads-0-gpt2-nano-{variant}"), LAYERS * HEADS)
        self.assertEqual(self.count("layers-0", ".point"), LAYERS * len(VARIANTS))
        self.assertEqual(self.count("bits-0-gpt2-nano", ".point"), 3 * len(VARIANTS) + 2 * 2)  # f32, W8A8, W6A6; two alternatives have no f32
        costs = group["runs"][0]["costs"]
        self.assertEqual(self.count("costs-0-gpt2-nano"), min(14, len(costs)) * len(VARIANTS))
        self.assertEqual(self.count("cost-layers-0-gpt2-nano", ".point"), LAYERS * len(VARIANTS))
        self.assertEqual(self.driver.find_elements(By.CSS_SELECTOR, 'figure[data-chart^="classes"]'), [])  # no outlier in so small a model
        self.js("""const d = JSON.parse(JSON.stringify(present)), ratio = {bos: 20, whitespace: 1, punctuation: 3, words: 0.5, digits: null, other: 0.1};
            d.groups[0].runs.forEach(r => { r.measure.token_class_ratio = ratio; }); render(d)""")
        self.assertEqual(self.count("classes-0-gpt2-nano"), 5 * len(VARIANTS))
        self.assertEqual(self.count("positions-0-gpt2-nano"), len(VARIANTS))
        self.assertEqual(self.cut_labels(), [])
        self.shot("lab")

    def test_table(self):
        group = self.data["groups"][0]
        rows = self.driver.find_elements(By.CSS_SELECTOR, 'table[data-table="results-0"] tbody tr')
        self.assertEqual([r.get_attribute("data-variant") for r in rows], VARIANTS)
        losses = {r["variant"]: r["val_loss"]["mean"] for r in group["rows"]}
        best = min(losses, key=losses.get)
        marked = [r.get_attribute("data-variant") for r in rows if "best" in (r.find_elements(By.TAG_NAME, "td")[2].get_attribute("class") or "")]
        self.assertEqual(marked, [best])
        cell = rows[0].find_elements(By.TAG_NAME, "td")[2].text
        self.assertRegex(cell, r"^\d\.\d+ ± 0\.\d+$")
        self.assertAlmostEqual(float(cell.split(" ")[0]), losses["softmax"], delta=0.01)
        text = self.driver.find_element(By.CSS_SELECTOR, ".verdict").text
        for sentence in group["verdict"]:
            self.assertIn(sentence.replace("Overall: ", "")[1:60], text)

    def test_what_was_run(self):
        text = self.js("document.querySelectorAll('details').forEach(d => d.open = true); return document.querySelector('footer').innerText")
        for words in ("ghostmax lab --data stories", "lr", "3 seeds (1, 2, 3)", "schedule constant", f"gpt2-nano: {LAYERS} layers, {HEADS} heads, width {WIDTH}", self.data["sources"][0]["machine"]["isa"], self.data["sources"][0]["time"][:10],
                      "softmax-s1", "finished"):
            self.assertIn(words, text)

    # ---- hands

    def test_hover(self):
        loss = self.chart("train-0-loss").find_element(By.CSS_SELECTOR, "rect.hover")
        text = self.hover(loss, 20, 0)
        self.assertRegex(text, r"step \d+")
        self.assertIn("softmax1 s2", text)
        self.assertRegex(self.hover(self.chart("paired-0-val_loss").find_element(By.CSS_SELECTOR, "rect.hover")), r"95% interval")
        self.assertRegex(self.hover(self.chart("levels-0-a").find_element(By.CSS_SELECTOR, "rect.hover")), r"level 0")
        self.assertRegex(self.hover(self.chart("heads-0-gpt2-nano-softmax").find_element(By.CSS_SELECTOR, "rect.mark")), r"layer 0, head 0")
        self.assertRegex(self.hover(self.chart("attention-0-b").find_element(By.CSS_SELECTOR, "rect.hover"), -30, 40), r"query \d+[\s\S]*to nothing")
        for form in ("spikes", "heat", "3-D"):
            self.js("Array.from(document.querySelectorAll('.switcher button')).find(b => b.textContent === arguments[0]).click()", form)
            text = self.hover(lambda: self.chart("activations-0-a").find_element(By.CSS_SELECTOR, "rect.hover"), 12, 30)
            self.assertRegex(text, r"token \d+[\s\S]*dimension[\s\S]*x ≈")
            self.assertEqual(len(self.driver.find_elements(By.CSS_SELECTOR, ".tokens .lit")), 1)
            self.shot("activations-" + form, self.js("const b = document.querySelector('.charts.two').getBoundingClientRect(); return {x: b.x, y: b.y + scrollY, width: b.width, height: 500}"))
        self.assertEqual(self.count("activations-0-a"), CONTEXT)

    def test_the_hovered_value_is_the_datas(self):
        """At the largest activation's place the tooltip names its token, its dimension and its size."""
        text = self.js("""const f = document.querySelector('figure[data-chart="activations-0-a"]'), rows = [];
            const top = f.querySelector('svg').getBoundingClientRect(); return [top.width, top.height]""")
        self.assertGreater(text[0], 200)
        group = self.data["groups"][0]
        chosen = self.js("return state.groups[0]")
        run_ = next(r for r in group["runs"] if r.get("sample") and chosen["a"] == f"{r['model']}\n{r['variant']}\n{r['seed']}")
        stored = run_["sample"]["tensors"][f"blocks.{chosen['layer']}.block"]
        codes = base64.b64decode(stored["data"])
        best = max(range(len(codes)), key=lambda i: codes[i] & 127)
        token, dim = divmod(best, stored["cols"])
        svg = self.chart("activations-0-a").find_element(By.CSS_SELECTOR, "rect.hover")
        box = self.js("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", svg)
        x = (dim + 0.5) / stored["cols"] * box[0] - box[0] / 2
        for y in range(int(-box[1] / 2) + 1, 0, 2):
            text = self.hover(svg, int(round(x)), y)
            if f"token {token}\n" in text + "\n" and re.search(rf"dimension\s*{dim}\b", text):
                break
        else:
            self.fail(f"token {token}, dimension {dim} are not found: {text}")
        self.assertAlmostEqual(abs(float(re.search(r"x ≈\s*(\S+)", text).group(1).replace("−", "-"))), stored["max"], delta=0.01 * stored["max"])

    def test_legend(self):
        """A variant that is off disappears from every chart and table, and comes again."""
        before = self.count("train-0-loss")
        self.press('.chip[data-variant="softmax1"]')
        self.assertEqual(self.count("train-0-loss"), before - SEEDS)
        self.assertEqual(self.count("paired-0-val_loss"), SEEDS)
        self.assertEqual(self.count("layers-0", ".point"), LAYERS * 2)
        self.assertEqual(self.count("heads-0-gpt2-nano-softmax1"), 0)
        row = self.driver.find_element(By.CSS_SELECTOR, 'table[data-table="results-0"] tr[data-variant="softmax1"]')
        self.assertFalse(row.is_displayed())
        self.assertEqual(self.driver.find_element(By.CSS_SELECTOR, '.chip[data-variant="softmax1"]').get_attribute("aria-pressed"), "false")
        self.press('.chip[data-variant="softmax1"]')
        self.assertEqual(self.count("train-0-loss"), before)

    def test_choices(self):
        titles = [s.text for s in self.driver.find_elements(By.CSS_SELECTOR, 'figure[data-chart^="activations"] .title')]
        for label, value, words in (("right", "gated s1", "gated"), ("layer", "1", "layer 1"), ("tensor", "FFN hidden", "FFN hidden")):
            select = Select(self.driver.find_element(By.CSS_SELECTOR, f'select[aria-label="{label}"]'))
            select.select_by_visible_text(value)
            self.assertIn(words, self.chart("activations-0-b").find_element(By.CSS_SELECTOR, ".title").text)
        self.assertNotEqual(titles, [s.text for s in self.driver.find_elements(By.CSS_SELECTOR, 'figure[data-chart^="activations"] .title')])
        axes = [[t.text for t in self.chart(f"activations-0-{s}").find_elements(By.CSS_SELECTOR, "g:first-of-type .tick text")] for s in "ab"]
        self.assertEqual(axes[0], axes[1])  # one scale

    def test_places_are_numbered_as_in_the_files(self):
        """Layers, heads, positions: as in measure.json, in the tensors' names beside the charts, and in the terminal."""
        self.assertEqual([o.text for o in Select(self.driver.find_element(By.CSS_SELECTOR, 'select[aria-label="layer"]')).options], ["0", "1"])
        label = self.js("return state.groups[0].layer")
        for key in ("activations-0-a", "levels-0-b", "attention-0-a"):
            self.assertRegex(self.chart(key).find_element(By.CSS_SELECTOR, ".title").text, rf"layer {label}\b")
        shown = "return Array.from(document.querySelectorAll('figure[data-chart^=\"%s\"] svg text')).map(t => t.textContent)"
        for key, first in (("layers-0", "0"), ("cost-layers-0", "0"), ("positions-0", "0"), ("attention-0-a", "head 0"), ("heads-0-gpt2-nano-softmax", "0")):
            self.assertIn(first, self.js(shown % key), key)
        self.assertNotIn("2", self.js(shown % "layers-0"))
        self.assertRegex(self.hover(self.chart("layers-0").find_element(By.CSS_SELECTOR, "rect.hover"), -100, 0), r"^layer 0\n")
        self.assertRegex(self.hover(self.chart("positions-0-gpt2-nano").find_element(By.CSS_SELECTOR, "rect.hover"), -140, 0), r"^position 0\n")
        heads = self.js("return figures.length && headCells(present.groups[0], 'softmax', 'gpt2-nano', 'sink_mass').map(c => [c.layer, c.head])")
        self.press('figure[data-chart="heads-0-gpt2-nano-softmax"] .foot button')
        rows = [r.text.split()[:2] for r in self.chart("heads-0-gpt2-nano-softmax").find_elements(By.CSS_SELECTOR, ".data tbody tr")]
        self.assertEqual(rows, [[str(l), str(h)] for l, h in heads])

    def test_numbers_of_every_chart(self):
        """Every chart has its table, which opens, and its downloads, which hold what is drawn."""
        keys = [f.get_attribute("data-chart") for f in self.driver.find_elements(By.TAG_NAME, "figure")]
        self.assertGreater(len(keys), 25)
        self.assertEqual(len(keys), len(set(keys)))
        for key in keys:
            self.press(f'figure[data-chart="{key}"] .foot button')
            self.assertGreater(len(self.chart(key).find_elements(By.CSS_SELECTOR, ".data tbody tr")), 0, key)
            self.assertEqual([b.text or b.get_attribute("textContent") for b in self.chart(key).find_elements(By.CSS_SELECTOR, ".foot button")], ["data", "CSV", "SVG"], key)
        for kind in (2, 3):
            self.press(f'figure[data-chart="train-0-val_loss"] .foot button:nth-child({kind})')
        wanted = [os.path.join(self.downloads, "train-0-val_loss." + kind) for kind in ("csv", "svg")]
        limit = time.time() + 10
        while not all(os.path.exists(w) and os.path.getsize(w) for w in wanted) and time.time() < limit:
            time.sleep(0.05)
        with open(wanted[0]) as f:
            lines = f.read().splitlines()
        want = sum(len(r["log"]["val_loss"][0]) for r in self.data["groups"][0]["runs"])
        self.assertEqual((lines[0], len(lines) - 1), ('"model","variant","seed","step","tokens","val_loss"', want))
        with open(wanted[1]) as f:
            svg = f.read()
        self.assertTrue(svg.startswith("<svg") and "var(--" not in svg and svg.count("<path") > 9, svg[:200])
        for words in ("Validation loss", "nats per token", *VARIANTS):  # the page's title and legend are not there to read
            self.assertIn(f">{words}</text>", svg)

    # ---- light, dark, small, on paper

    def test_dark(self):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        time.sleep(0.3)
        ground = self.js("return getComputedStyle(document.body).backgroundColor")
        self.assertLess(max(map(int, re.findall(r"\d+", ground))), 60)
        fill = self.js("return document.querySelector('figure[data-chart=\"train-0-loss\"] svg text').getAttribute('fill')")
        self.assertGreater(int(fill[1:3], 16), 120)
        self.assertEqual(self.count("train-0-loss"), len(VARIANTS) * SEEDS)
        self.shot("dark")

    def test_phone(self):
        self.size(390, True)
        self.open(self.page)
        time.sleep(0.3)
        for width in (320, 390):
            self.size(width, True)
            time.sleep(0.3)
            self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), width)
        self.assertEqual(self.cut_labels(), [])
        self.shot("phone")

    def test_print(self):
        pdf = base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        with open(os.path.join(SHOTS, "print.pdf"), "wb") as f:
            f.write(pdf)
        self.assertTrue(pdf.startswith(b"%PDF") and len(pdf) > 50000, len(pdf))
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        self.assertEqual(self.js("return getComputedStyle(document.body).backgroundColor"), "rgb(255, 254, 251)")  # paper is white whatever the screen is
        self.assertEqual(self.js("return getComputedStyle(document.querySelector('.foot')).display"), "none")
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    # ---- the network, and new data

    def test_no_network(self):
        self.assertEqual(self.js("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"), [])
        self.assertTrue(self.js("return document.querySelector('.live').hidden"))

    def test_rendering_again_keeps_the_place(self):
        self.press('.chip[data-variant="gated"]')
        Select(self.driver.find_element(By.CSS_SELECTOR, 'select[aria-label="tensor"]')).select_by_visible_text("FFN output")
        self.js("window.scrollTo(0, 1500)")
        before = self.js("return window.scrollY")
        self.js("const d = JSON.parse(JSON.stringify(present)); d.notes.push('new'); render(d)")
        self.assertEqual(self.js("return window.scrollY"), before)
        self.assertIn("new", self.driver.find_element(By.CSS_SELECTOR, ".notes").text)
        self.assertEqual(self.count("train-0-loss"), 2 * SEEDS)
        self.assertIn("FFN output", self.chart("activations-0-a").find_element(By.CSS_SELECTOR, ".title").text)

    def test_rendering_again_keeps_what_the_reader_does(self):
        """The keyboard's place, an unfolded list, a shifted table: a live page is drawn anew every few seconds."""
        self.size(390, True)
        self.js("document.querySelector('details').open = true; document.querySelector('.scroll').scrollLeft = 60")
        for find in ("document.querySelector('figure[data-chart=\"train-0-loss\"] .foot button:nth-child(2)')", "document.querySelector('.chip[data-variant=\"gated\"]')",
                     "document.querySelector('select[aria-label=\"tensor\"]')", "document.querySelector('summary')"):
            self.js(f"{find}.focus(); const d = JSON.parse(JSON.stringify(present)); d.notes.push('new'); render(d)")
            self.assertTrue(self.js(f"return document.activeElement === {find}"), find)
        self.assertTrue(self.js("return document.querySelector('details').open"))
        self.assertEqual(self.js("return document.querySelector('.scroll').scrollLeft"), 60)

    def test_live(self):
        site = os.path.join(self.folder, "site")
        os.makedirs(site, exist_ok=True)
        shutil.copy(self.page, os.path.join(site, "index.html"))
        data = json.loads(json.dumps(self.data))

        def put():
            with open(os.path.join(site, "new"), "w") as f:
                json.dump(data, f)
            os.replace(os.path.join(site, "new"), os.path.join(site, "data.json"))

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        put()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            self.driver.get(f"http://127.0.0.1:{server.server_address[1]}/index.html")
            self.assertFalse(self.js("return document.querySelector('.live').hidden"))
            data["groups"][0]["verdict"] = ["A sentence that came later."]
            put()
            limit, verdict = time.time() + 10, "return document.querySelector('.verdict').innerText"
            while "came later" not in self.js(verdict) and time.time() < limit:
                time.sleep(0.1)
            self.assertIn("came later", self.js(verdict))
            server.shutdown()
            server.server_close()
            limit, live = time.time() + 10, "return document.querySelector('.live').innerText"
            while self.js(live) == "live" and time.time() < limit:
                time.sleep(0.1)
            self.assertIn("not connected", self.js(live))
            refused = [e["message"] for e in self.driver.get_log("browser")]  # the browser's own words; the page's are none
            self.assertTrue(refused and all("data.json" in m and "ERR_CONNECTION_REFUSED" in m for m in refused), refused)
        finally:
            self.open(self.page)
            server.shutdown()
            server.server_close()

    # ---- what hurts

    def test_without_d3(self):
        """A build that found no d3: the table and what was run are there, and nothing fails."""
        end = self.html.index("</script>\n<script>\n// toolkit.js")
        begin = self.html.rindex("<script>", 0, end)
        page = os.path.join(self.folder, "plain.html")
        with open(page, "w") as f:
            f.write(self.html[:begin] + "<script>" + self.html[end:])
        self.open(page)
        self.assertEqual(len(self.driver.find_elements(By.CSS_SELECTOR, 'table[data-table="results-0"] tbody tr')), len(VARIANTS))
        text = self.driver.find_element(By.TAG_NAME, "main").text
        self.assertIn("no d3", text)
        self.assertIn("What was run", text)

    def test_nasty_text(self):
        evil = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">"\'&\n'
        self.js("""const d = JSON.parse(JSON.stringify(present)), evil = arguments[0], g = d.groups[0];
            d.notes = [evil + 'z'.repeat(1e7)]; d.sources[0].command = evil; d.sources[0].folder = evil; g.verdict = [evil, 'Overall: ' + evil]; g.apart = evil;
            [g.runs, g.rows].forEach(list => list.forEach(r => { if (r.variant === 'gated') r.variant = evil; r.model = evil; }));
            g.runs.forEach(r => { if (r.sample) r.sample.tokens[1] = evil; if (r.measure && r.measure.largest) r.measure.largest.forEach(v => { v.text = v.before = evil; }); });
            render(d);""", evil)
        self.assertFalse(self.js("return !!window.hacked"))
        self.assertEqual(self.js("return document.querySelectorAll('main script, main img').length"), 0)
        self.assertIn("window.hacked=1", self.driver.find_element(By.CSS_SELECTOR, ".legend").text)
        self.hover(self.chart("train-0-loss").find_element(By.CSS_SELECTOR, "rect.hover"))
        self.assertFalse(self.js("return !!window.hacked"))

    def test_ticks_are_told_apart(self):
        """Each label of an axis is another number, also where d3's own formats round two to one."""
        self.js("""const d = JSON.parse(JSON.stringify(present));
            d.groups[0].runs.forEach((r, i) => { r.log.loss = [[1, 2], [0.00041, 0.00116]]; r.log.grad_norm = [[1, 2], [1e-7, 3e6]]; }); render(d)""")
        for key in ("train-0-loss", "train-0-grad_norm", "levels-0-a"):
            for axis in self.js(f"""return Array.from(document.querySelectorAll('figure[data-chart="{key}"] svg g[fill="none"]')).map(g =>
                    Array.from(g.querySelectorAll('.tick text')).map(t => t.textContent))"""):
                self.assertGreater(len(axis), 1)
                self.assertEqual(len(axis), len(set(axis)), (key, axis))

    def test_axes_end_near_the_data(self):
        """A logarithmic axis from 4 to 50 does not begin at 1 and end at 100; a rate of 0 throughout has no axis below 0."""
        self.js("""const d = JSON.parse(JSON.stringify(present));
            d.groups[0].runs.forEach(r => { r.log.max_inf_norm = [[1, 2], [4.2, 51]]; r.log.sink_rate = [[1, 2], [0, 0]]; }); render(d)""")
        ticks = "return Array.from(document.querySelectorAll('figure[data-chart=\"train-0-%s\"] svg g:first-of-type .tick text')).map(t => t.textContent)"
        self.assertEqual(self.js(ticks % "max_inf_norm"), ["2", "5", "10", "20", "50", "100"])
        self.assertEqual(self.js(ticks % "sink_rate")[0], "0")

    def test_little_room(self):
        """Numbers of a diverged run, long names, many heads: nothing is cut, nothing lies on anything else, on a phone neither."""
        self.js("""const d = JSON.parse(JSON.stringify(present)), g = d.groups[0], name = 'softmax1+gated:bias=0.9,hidden=64,and=so-on';
            [g.runs, g.rows].forEach(list => list.forEach(r => { if (r.variant === 'gated') r.variant = name; }));
            g.runs.forEach(r => { r.log.grad_norm = [[1, 2], [3, 4e22]]; r.log.max_inf_norm = [[1, 2], [1.1e15, 8e14]]; r.log.loss = [[1, 2], [-0.0015, 0.00041]];
                if (r.sample) Object.values(r.sample.heads).forEach(h => { const T = r.sample.tokens.length, many = (text, n) => btoa(atob(text).slice(0, n).repeat(8));
                    h.weights = many(h.weights, T * (T + 1) / 2); h.null_mass = many(h.null_mass, T); h.heads = 8; delete h.bytes; }); });
            render(d)""")
        self.assertEqual(self.count("attention-0-a"), 8)
        for width in (320, 390, 1280):
            self.size(width, width < 1000)
            time.sleep(0.5)
            self.assertEqual((self.cut_labels(), self.touching_labels()), ([], []), width)
            self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), width)

    def test_fifty_variants(self):
        seconds = self.js("""const d = JSON.parse(JSON.stringify(present)), g = d.groups[0], runs = g.runs, rows = g.rows, names = Array.from({length: 50}, (_, i) => 'softmax_n:n=' + i);
            g.runs = names.map((n, i) => Object.assign({}, runs[i % runs.length], {variant: n, seed: 1}));
            g.rows = names.map((n, i) => Object.assign({}, rows[i % rows.length], {variant: n}));
            const t = performance.now(); render(d); return (performance.now() - t) / 1000""")
        self.assertEqual(self.count("train-0-loss"), 50)
        self.assertEqual(len(self.driver.find_elements(By.CSS_SELECTOR, ".chip")), 50)
        self.assertLess(seconds, 15)
        self.shot("fifty")

    def test_holes(self):
        """NaN, one point, no measurement, no rows: everything that is there is drawn, nothing fails."""
        self.js("""const d = JSON.parse(JSON.stringify(present)), runs = d.groups[0].runs;
            runs[0].log.loss = [[1, 2, 3, 4], [3, null, 2, 1]]; runs[1].log = {loss: [[5], [2]]}; runs[2].log = {};
            delete runs[3].measure; runs[4].sample = null; runs[5].measure.tensors.inf_norm = runs[5].measure.tensors.inf_norm.map(() => null);
            runs[6].state = 'waiting'; delete runs[6].log; d.groups[0].rows.forEach(r => { r.val_loss = {mean: null, std: null, values: [null, null, null]}; });
            render(d)""")
        self.assertEqual(self.count("train-0-loss"), len(VARIANTS) * SEEDS - 2)
        self.assertEqual(self.count("train-0-loss", "circle.mark"), 1)
        self.js("const d = JSON.parse(JSON.stringify(present)); d.groups[0].rows = []; d.groups[0].ablations = []; d.groups[0].verdict = []; d.groups[0].runs.forEach(r => { delete r.measure; delete r.sample; delete r.log; }); render(d)")
        self.assertIn("What was run", self.driver.find_element(By.TAG_NAME, "main").text)

    # ---- many folders in one page

    def test_many_folders(self):
        run("train", "--data", "stories", "--model", "gpt2-micro", "--layers", LAYERS, "--heads", HEADS, "--width", WIDTH, "--attention", "softmax1", "--steps", 20, "--batch", 4,
            "--context", CONTEXT, "--eval-sequences", 8, "--lr", 0.01, "--out", os.path.join(self.folder, "alone"), "--threads", 1, "--quiet")
        run("measure", os.path.join(self.lab, "runs", "softmax-s1"), "--data", "stories", "--sequences", 4, "--out", os.path.join(self.folder, "audit"), "--threads", 1, "--quiet")
        sizes = os.path.join(self.folder, "sizes")
        run("lab", "--data", "stories", "--model", "gpt2-nano", "--layers", LAYERS, "--heads", HEADS, "--width", 2 * WIDTH, "--variants", ",".join(VARIANTS), "--seeds", 1,
            "--steps", 20, "--batch", 4, "--context", CONTEXT, "--eval-sequences", 8, "--measure-sequences", 4, "--calibration-batches", 2,
            "--sensitivity-sequences", 2, "--out", sizes, "--threads", 1, "--quiet")
        page = os.path.join(self.folder, "all.html")
        run("report", self.lab, sizes, os.path.join(self.folder, "alone"), os.path.join(self.folder, "audit"), "--out", page)
        self.open(page)
        self.assertEqual(len(self.driver.find_elements(By.TAG_NAME, "h1")), 3)
        self.assertIn("lr 0.", " ".join(e.text for e in self.driver.find_elements(By.CSS_SELECTOR, ".apart")))
        self.assertEqual(len(self.driver.find_elements(By.CSS_SELECTOR, 'figure[data-chart^="activations"]')), 4)  # a single model stands alone
        for width in (320, 390, 1280):  # names of variant and model in little room
            self.size(width, width < 1000)
            time.sleep(0.5)
            self.assertEqual((self.cut_labels(), self.touching_labels()), ([], []), width)
        for metric in ("max_inf_norm", "avg_kurtosis", "w8a8_loss_increase"):
            self.assertEqual(self.count(f"size-0-{metric}", ".point"), 2 * len(VARIANTS), metric)
        self.shot("many")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
