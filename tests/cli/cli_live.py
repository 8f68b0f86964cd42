"""--live: the report over HTTP on this machine alone, while a run goes on."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

from program import PROGRAM, TINY_TRAIN, Case, main


class Live(Case):
    def ask(self, port, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def step(self, port):
        data = json.loads(self.ask(port, "/data.json")[1])
        self.assertEqual(data["schema"], "ghostmax.report/1")
        return data["groups"][0]["runs"][0].get("step", 0) if data["groups"] else 0

    def test_it_follows_a_run(self):
        child = subprocess.Popen([PROGRAM, "train", "--data", self.text(), "--steps", "100000000", "--log-every", "50", "--out", self.path("run"),
                                  "--live", "0", *TINY_TRAIN, "--quiet"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.kill)
        port = int(re.fullmatch(r"live: http://127\.0\.0\.1:(\d+)/\n", child.stderr.readline())[1])
        status, page = self.ask(port, "/")
        self.assertEqual(status, 200)
        self.assertIn("ghostmax.report/1", page)
        seen = set()
        while len(seen - {0}) < 2:  # the run goes on until it is stopped below
            self.assertIsNone(child.poll())
            seen.add(self.step(port))
            time.sleep(0.3)
        for path in ("/x", "/data.json/", "/../../etc/passwd", "/run/train.json", "//"):
            self.assertEqual(self.ask(port, path)[0], 404, path)
        for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
            self.assertEqual(self.ask(port, "/", method)[0], 405, method)
        for host, status in (("example.com", 403), ("127.0.0.1.example.com", 403), (f"localhost:{port}", 200)):
            self.assertEqual(self.ask(port, "/", Host=host)[0], status, host)
        with self.assertRaises(ConnectionRefusedError):  # bound to one address
            socket.create_connection(("127.0.0.2", port), timeout=5)
        for command in (["train", *TINY_TRAIN], ["lab"]):  # said before anything is made
            self.fails(1, [f"127.0.0.1:{port}", "in use", "another port"], *command, "--steps", 5, "--out", self.path("other"), "--live", port)
            self.assertFalse(os.path.exists(self.path("other")))
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(timeout=240), 1)
        self.assertIn("stopped at step", child.stderr.read())
        child.stderr.close()

    def test_ports_that_are_none(self):
        for port in ("65536", "-1", "http"):
            self.fails(2, ["--live"], "train", "--out", self.path("a"), f"--live={port}")


main()
