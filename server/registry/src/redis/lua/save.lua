-- KEYS stream. ARGV owner, fence, number of the change, expiry, then fields and values.
-- Returns 1 if it was its owner's, 0 if not. What is older than what is there is left out.
local held = call('HMGET', KEYS[1], 'owner', 'fence', 'state', 'change')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] == 'ended' then
  return 0
end
if (tonumber(held[4] or '') or 0) < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'change', ARGV[3], unpack(ARGV, 5))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
