"""What an app does around the stack: computes an avatar's address, signs a ticket."""

import base64
import hashlib
import hmac
import json

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def short_code(content, n=0):
    """The n-th code of a content, as the README says."""
    digest = hashlib.md5(content).digest()
    if n:
        digest = hashlib.md5(digest + bytes([n])).digest()
    bits = int.from_bytes(digest[:5], "big")
    return "".join(ALPHABET[bits >> shift & 31] for shift in range(35, -5, -5))


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(secret, kid):
    """The key set for the function that holds an HS256 key."""
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": encode(secret)}]})


def ticket(secret, kid, claims):
    """A JWT, signed with HS256."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": kid}, claims]
    message = ".".join(encode(json.dumps(part).encode()) for part in parts)
    return f"{message}.{encode(hmac.new(secret, message.encode(), hashlib.sha256).digest())}"
