-- KEYS lease and duty of a dead instance. ARGV claimant, time of the duty in milliseconds. Returns 1 if it is the claimant's.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local holder = call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
