"""What a signature is wrapped in: PKCS#7, and the trust anchors it is verified against."""
