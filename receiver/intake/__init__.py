"""A delivery's way in: authenticated, read, admitted, recorded, acknowledged."""
