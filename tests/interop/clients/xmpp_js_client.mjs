// An @xmpp/client that a test drives: commands on standard input, events as lines of JSON on standard output.
//
//     xmpp_js_client.mjs JID PASSWORD PORT starttls|direct
//
// Commands: `send JID TEXT`, `ping JID`, `close`. The test's certificate comes by NODE_EXTRA_CA_CERTS.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package lies where the test installed it, not beside this file.
const require = createRequire(process.env.XMPP_JS_MODULES + "/");
const { client, xml } = await import(pathToFileURL(require.resolve("@xmpp/client")));

const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));

const [jid, password, port, tls] = process.argv.slice(2);
const [username, domain] = jid.split("@");
const scheme = tls === "direct" ? "xmpps" : "xmpp";
let mechanism = null;
const entity = client({
  service: `${scheme}://localhost:${port}`,
  domain,
  credentials: async (authenticate, mechanisms) => {
    [mechanism] = mechanisms;
    await authenticate({ username, password }, mechanism);
  },
});
entity.reconnect.stop();
entity.on("error", (error) => say("error", { error: String(error) }));
entity.on("offline", () => say("disconnected"));
entity.on("stanza", (stanza) => {
  if (stanza.is("message") && stanza.getChild("body")) {
    say("message", { from: stanza.attrs.from, body: stanza.getChildText("body") });
  }
});
entity.on("online", async (address) => {
  await entity.send(xml("presence"));
  const socket = entity.socket?.socket ?? entity.socket;
  say("online", { jid: address.toString(), mechanism, tls: socket?.getProtocol?.() ?? null });
});

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const [verb, to, ...words] = line.split(" ");
    if (verb === "send") {
      await entity.send(xml("message", { to, type: "chat" }, xml("body", {}, words.join(" "))));
    } else if (verb === "ping") {
      await entity.iqCaller.request(xml("iq", { type: "get", to }, xml("ping", "urn:xmpp:ping")));
      say("pong");
    } else if (verb === "close") {
      await entity.stop();
      process.exit(0);
    }
  });

await entity.start().catch((error) => say("failed", { error: String(error) }));
