"""A slixmpp client that a test drives: commands on standard input, events as lines of JSON on standard output.

    slixmpp_client.py JID PASSWORD PORT starttls|direct CA_FILE

Commands: `send JID TEXT`, `ping JID`, `close`.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import slixmpp


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, password, tls, ca_file):
        super().__init__(jid, password)
        self.ca_certs = Path(ca_file)
        self.enable_starttls = tls == "starttls"
        self.enable_direct_tls = tls == "direct"
        self.enable_plaintext = False
        self.auto_reconnect = False
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0199")
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("failed_all_auth", lambda _: say("failed"))
        self.add_event_handler("disconnected", lambda _: say("disconnected"))

    async def on_start(self, _):
        self.send_presence()
        mechanism = self.plugin["feature_mechanisms"].mech.name
        tls = self.socket.version() if isinstance(self.socket, (ssl.SSLSocket, ssl.SSLObject)) else None
        info = await self.plugin["xep_0030"].get_info(jid=self.boundjid.domain)
        features = sorted(info["disco_info"]["features"])
        say("online", jid=self.boundjid.full, mechanism=mechanism, tls=tls, features=features)

    def on_message(self, message):
        say("message", **{"from": message["from"].full, "body": message["body"]})


async def commands(client):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "send":
            to, _, text = rest.partition(" ")
            client.send_message(mto=to, mbody=text, mtype="chat")
        elif verb == "ping":
            seconds = await client.plugin["xep_0199"].ping(jid=rest)
            say("pong", seconds=seconds)
        elif verb == "close":
            break
    await client.disconnect()


async def main():
    jid, password, port, tls, ca_file = sys.argv[1:]
    client = Client(jid, password, tls, ca_file)
    client.connect("127.0.0.1", int(port))
    await commands(client)


asyncio.run(main())
