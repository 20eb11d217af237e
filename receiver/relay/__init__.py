"""The operator's own calls: passed on to the provider, and recorded as the evidence that they are."""
