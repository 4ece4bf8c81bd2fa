"""Protobuf messages of the transports: identity keys and the payload of the Noise handshake.

The `.proto` files are the source; `make proto` writes the `*_pb2.py` and `*_pb2.pyi` next to them. Nothing else belongs
here. All of them are proto3 with `optional`: an absent field can be told from a zero, an unknown enum value keeps its
number, and text that is not UTF-8 fails to parse (under proto2 it turns up as bytes where `str` is promised).
"""
