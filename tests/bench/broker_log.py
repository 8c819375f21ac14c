"""Counts the MQTT packets that mosquitto received, by its log."""

import collections
import re


def received(path):
    """How many packets of each kind. A CONNECT is not logged as received, but as a client that has connected."""
    text = path.read_text()
    kinds = re.findall(r": Received ([A-Z]+) from ", text)
    connects = re.findall(r": New client connected from ", text)
    return collections.Counter(["CONNECT"] * len(connects) + [kind for kind in kinds if kind != "CONNECT"])
