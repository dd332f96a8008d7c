#!/usr/bin/env python3
"""Writes peer_ref.json, from docs/peer-ref.md alone: a second implementation of the format, so that the vectors check
the Rust one rather than repeat it. Needs the package `cryptography`. Run: python3 peer_ref.py > peer_ref.json"""

import base64
import hashlib
import ipaddress
import json
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_750_000_000


def b32(data):
    return base64.b32encode(data).decode().rstrip("=").lower()


def public(seed):
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed, context, message):
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    context = context.encode()
    return key.sign(b"webmesh/1 signature\0" + struct.pack(">Q", len(context)) + context + message)


def address(text):
    host, port = text.rsplit(":", 1)
    ip = ipaddress.ip_address(host.strip("[]"))
    return bytes([ip.version]) + ip.packed + struct.pack(">H", int(port))


def addresses(texts):
    return bytes([len(texts)]) + b"".join(map(address, texts))


def body(seed, version, expires, direct, rendezvous):
    out = b"\x02" + public(seed) + struct.pack(">QQ", version, expires) + addresses(direct)
    out += bytes([len(rendezvous)])
    for point in rendezvous:
        out += public(point["seed"]) + addresses(point["addresses"]) + addresses(point["tls"])
    return out


def signed(seed, *content, signer=None, context="webmesh/1 peer-ref"):
    encoded = body(seed, *content)
    return encoded + sign(signer or seed, context, encoded)


def text(data):
    return "wm1" + b32(data + hashlib.sha256(b"wm1" + data).digest()[:4])


def point(seed, direct, tls=()):
    return {"seed": seed, "addresses": list(direct), "tls": list(tls)}


cases = []


def case(name, data, verdict, shown=None, spelled=None):
    cases.append(
        {"name": name, "bytes": data.hex(), "text": text(data) if spelled is None else spelled, "verdict": verdict}
        | ({"content": shown} if shown else {})
    )


def good(name, seed, version, expires, direct, rendezvous, verdict="valid"):
    shown = {
        "peer": b32(public(seed)),
        "secret": (bytes([seed]) * 32).hex(),
        "version": version,
        "expires": expires,
        "addresses": direct,
        "rendezvous": [
            {"peer": b32(public(p["seed"])), "addresses": p["addresses"], "tls": p["tls"]}
            for p in rendezvous
        ],
    }
    case(name, signed(seed, version, expires, direct, rendezvous), verdict, shown)


V4, V6 = "192.0.2.7:4433", "[2001:db8::7]:4433"
LATER = NOW + 3600
meet = [point(2, ["198.51.100.2:443"], ["198.51.100.2:443"]), point(3, [], ["[2001:db8::3]:8443"])]
full = [
    point(10 + n, [f"198.51.100.{n}:1", f"[2001:db8::{n}]:1"], [f"198.51.100.{n}:443", f"[2001:db8::{n}]:443"])
    for n in range(8)
]
# 8 rendezvous points of 86 bytes, 114 bytes of frame; 198 left for addresses.
brim = [f"[2001:db8::1:{n}]:9" for n in range(8)] + [f"192.0.2.{n}:9" for n in range(6)]

good("a direct address", 1, 1_750_000_000_000, LATER, [V4], [])
good("both families and two rendezvous points", 1, 1_750_000_000_001, LATER, [V6, V4], meet)
good("nothing but the key, for a peer found by lookup", 4, 1, LATER, [], [])
good("the highest version and expiry", 4, 2**64 - 1, 2**64 - 1, [V4], [])
good("as many rendezvous points as there may be", 5, 7, LATER, brim, full)
good("expired within the tolerance", 1, 2, NOW - 300, [V4], [])
good("expired", 1, 2, NOW - 301, [V4], [], "expired")
good("expired in 1970", 1, 2, 0, [V4], [], "expired")
case("an address only", b"\x01" + addresses([V4]), "unsigned", {"addresses": [V4]})
case("addresses only", b"\x01" + addresses([V6, V4]), "unsigned", {"addresses": [V6, V4]})

fine = signed(1, 9, LATER, [V4], meet)
case("upper case, for a QR code", fine, "valid", spelled=text(fine).upper())
case("signed by another key", signed(1, 9, LATER, [V4], meet, signer=2), "bad-signature")
case("signed for another purpose", signed(1, 9, LATER, [V4], meet, context="webmesh/1 other"), "bad-signature")
case("a later version under an old signature", fine[:40] + b"\x0a" + fine[41:], "bad-signature")
case("another address under an old signature", fine.replace(address(V4), address("192.0.2.8:4433")), "bad-signature")
case("a signature of zeros", fine[:-64] + bytes(64), "bad-signature")

case("a wrong letter", fine, "mistyped", spelled=text(fine)[:50] + ("a" if text(fine)[50] != "a" else "b") + text(fine)[51:])
case("a letter lost at the end", fine, "mistyped", spelled=text(fine)[:-1])
case("a letter added", fine, "mistyped", spelled=text(fine) + "a")
case("mixed case", fine, "mistyped", spelled=text(fine)[:-1] + text(fine)[-1].upper() + "A")
case("a space in the middle", fine, "mistyped", spelled=text(fine)[:20] + " " + text(fine)[20:])
case("the prefix alone", b"", "mistyped", spelled="wm1")
case("empty text", b"", "not-a-peer-ref", spelled="")
case("another version of the text form", fine, "not-a-peer-ref", spelled="wm2" + text(fine)[3:])
case("an address in plain text", fine, "not-a-peer-ref", spelled=V4)
case("endless", fine, "too-long", spelled="wm1" + "a" * 100_000)


def bad(name, data):
    case(name, data, "malformed")


def resigned(encoded):
    return encoded + sign(1, "webmesh/1 peer-ref", encoded)


bad("empty", b"")
bad("class 0", b"\x00")
bad("class 3", b"\x03" + fine[1:])
bad("no address", b"\x01\x00")
bad("17 addresses", b"\x01" + addresses([f"192.0.2.1:{n}" for n in range(1, 18)]))
bad("a count that promises more", b"\x01\x02" + address(V4))
bad("a byte too many", b"\x01" + addresses([V4]) + b"\x00")
bad("a signed one cut off", fine[:-1])
bad("a signed one with a byte too many", fine + b"\x00")
bad("an unknown family", b"\x01\x01\x05" + address(V4)[1:])
for name, wrong in {
    "port 0": "192.0.2.7:0",
    "unspecified": "0.0.0.0:1",
    "unspecified IPv6": "[::]:1",
    "multicast": "224.0.0.251:5353",
    "broadcast": "255.255.255.255:1",
    "multicast IPv6": "[ff02::fb]:5353",
    "link-local IPv6": "[fe80::1]:1",
    "IPv4 spelled as IPv6": "[::ffff:192.0.2.7]:4433",
}.items():
    bad(name, b"\x01" + addresses([wrong]))
    bad(f"{name}, signed", signed(1, 9, LATER, [wrong], []))
bad("an address twice", signed(1, 9, LATER, [V4, V4], []))
bad("a rendezvous twice", signed(1, 9, LATER, [V4], meet[:1] * 2))
bad("its own rendezvous", signed(1, 9, LATER, [V4], [point(1, [V4])]))
bad("a rendezvous without address", signed(1, 9, LATER, [V4], [point(2, [])]))
bad("9 rendezvous points", signed(1, 9, LATER, [], [point(20 + n, [V4]) for n in range(9)]))
bad("9 addresses of a rendezvous", signed(1, 9, LATER, [], [point(2, [f"192.0.2.1:{n}" for n in range(1, 10)])]))
case("1,001 bytes", resigned(b"\x02" + bytes(936)), "too-long")
bad("a host that is no key", resigned(b"\x02" + b"\x02" + bytes(31) + fine[33:-64]))
bad("a weak key, under which anyone signs", b"\x02\x01" + bytes(31) + fine[33:-64] + b"\x01" + bytes(63))

print(json.dumps({"now": NOW, "cases": cases}, indent=1))
