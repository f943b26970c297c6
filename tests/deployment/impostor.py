"""Somebody who poses as the centre: a TLS server with a certificate of one's choice.

    python impostor.py certificate.pem key.pem heard.json

It takes what is redirected to LINE_PORT of a hospital's loopback and writes down how
many connections it saw and how many bytes it was told after a handshake: a hospital
that trusts it would tell it its public key and a signature.
"""

import asyncio
import contextlib
import json
import ssl
import sys
from pathlib import Path

from tests.deployment.lab import LINE_PORT


async def serve(certificate: str, key: str, heard: Path) -> None:
    """Listen for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    counts = {"connections": 0, "bytes": 0}

    def note(name: str, number: int = 1) -> None:
        counts[name] += number
        heard.write_text(json.dumps(counts))

    async def listen(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        note("connections")
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await writer.start_tls(context, ssl_handshake_timeout=10)
            while chunk := await reader.read(65536):
                note("bytes", len(chunk))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", LINE_PORT)
    heard.write_text(json.dumps(counts))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
