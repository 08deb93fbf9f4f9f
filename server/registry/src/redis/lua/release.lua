-- KEYS sessions, presence, and its stream if it has one. ARGV resource, session, instance, instance as a stream's owner.
-- Returns 1 if the session is gone by this; 0 if it was not there, or elsewhere, or is on its way elsewhere: somebody has
-- taken its stream.
local held = readable(field(KEYS[1], ARGV[1]))
if not held or not is(held, ARGV[2], ARGV[3]) then
  return 0
end
if KEYS[3] then
  local owner = field(KEYS[3], 'owner')
  if owner and owner ~= ARGV[4] and field(KEYS[3], 'state') ~= 'ended' then
    return 0
  end
end
redis.call('HDEL', KEYS[1], ARGV[1])
if field(KEYS[2], ARGV[1]) then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
