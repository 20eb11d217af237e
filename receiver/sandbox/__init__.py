"""The issuing side of a provider, to try the receiver with: its deliveries, made up, but signed and sent for real."""

from receiver.sandbox import truthlocks as issuer

__all__ = ["issuer"]
