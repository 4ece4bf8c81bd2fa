"""Protobuf messages of the relay: hop and stop, identify, signed envelopes, peer records and vouchers.

The `.proto` files are the source; `make proto` writes the `*_pb2.py` and `*_pb2.pyi` next to them. Nothing else belongs
here. The rules of `transports.proto` hold.
"""
