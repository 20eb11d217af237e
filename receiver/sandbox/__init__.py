"""The issuing side of the providers, to try the receiver with: made-up things, but real calls and real deliveries."""
