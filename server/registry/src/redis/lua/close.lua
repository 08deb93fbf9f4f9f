-- KEYS stream. ARGV owner, fence, h, for how long it is remembered. Returns 1 if it was its owner's, 0 if not.
local held = call('HMGET', KEYS[1], 'owner', 'fence', 'state')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] == 'ended' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'ended', 'h', ARGV[3], 'details', '')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
