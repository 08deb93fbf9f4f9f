-- Prosody on loopback, for tests alone: no TLS, files in one folder, everything that keeps messages.
run_as_root = true
pidfile = "FOLDER/prosody.pid"
data_path = "FOLDER/data"
interfaces = { "127.0.0.1" }
c2s_ports = { PORT }
legacy_ssl_ports = { }
s2s_ports = { }
http_ports = { }
https_ports = { }
modules_enabled = { "roster", "saslauth", "disco", "ping", "offline", "smacks", "mam" }
modules_disabled = { "s2s", "tls" }
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
default_archive_policy = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
smacks_hibernation_time = 60
limits = { }
log = { info = "*console" }
VirtualHost "localhost"
