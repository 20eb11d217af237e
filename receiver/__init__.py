"""The service: deliveries in, proofs out. `receiver.app.create_app` puts it together."""
