-- KEYS sessions, presence. ARGV resource, session, instance, record, whether a holder keeps it, limit, expiry.
-- Returns 0 claimed, with what was replaced and its presence; 1 taken; 2 too many.
local there = field(KEYS[1], ARGV[1])
local held = readable(there)
if held and is(held, ARGV[2], ARGV[3]) then
  held = false
elseif held and ARGV[5] == '1' then
  return {1, false, false}
end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  return {2, false, false}
end
local presence = field(KEYS[2], ARGV[1])
if presence then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {0, held or false, presence}
