-- KEYS stream. ARGV owner to be, expiry. Returns all fields as they are then; none: there is no such stream.
local held = call('HMGET', KEYS[1], 'owner', 'state', 'previous', 'fence')
if held[1] and held[2] ~= 'ended' then
  local previous = held[3]
  if not previous or previous == '' then
    previous = held[1]
  end
  local fence = string.format('%.0f', (tonumber(held[4] or '') or 0) + 1)
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'previous', previous, 'fence', fence, 'change', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('HGETALL', KEYS[1])
