"""What synthetic pictures show."""

SHARES = {"vessels": 0.55, "cracks": 0.2, "roads": 0.15, "blobs": 0.1}  # thin structures matter most here
KINDS = tuple(SHARES)
