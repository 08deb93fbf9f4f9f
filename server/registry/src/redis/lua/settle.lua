-- KEYS sessions, presence, stream. ARGV resource, session, new instance, number of the change (8 bytes), owner, fence, expiry.
-- Returns the session's record and its presence as they are then; nothing: it is not the owner's, or the session is not bound.
local stream = call('HMGET', KEYS[3], 'owner', 'fence', 'state')
if stream[1] ~= ARGV[5] or stream[2] ~= ARGV[6] or stream[3] == 'ended' then
  return {}
end
local held = readable(field(KEYS[1], ARGV[1]))
if not held or string.sub(held, 2, 17) ~= ARGV[2] then
  return {}
end
held = string.sub(held, 1, 17) .. ARGV[3] .. ARGV[4] .. string.sub(held, 34)
redis.call('HSET', KEYS[1], ARGV[1], held)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
-- The new instance counts its changes anew.
local presence = field(KEYS[2], ARGV[1])
if presence_changed(presence, ARGV[2]) >= 0 then
  presence = string.sub(presence, 1, 17) .. ARGV[4] .. string.sub(presence, 26)
  redis.call('HSET', KEYS[2], ARGV[1], presence)
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
redis.call('HSET', KEYS[3], 'previous', '', 'state', 'live')
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return {held, presence}
