-- KEYS calm, leases. ARGV silence that tells of a gap, for how long nobody is taken for dead after one (milliseconds).
-- Returns for each lease whether it is there; nothing where that says nothing: the instances have not been heard for long
-- enough to tell one that is gone from one that could not renew.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local heard = tonumber(field(KEYS[1], 'heard') or '')
local since = tonumber(field(KEYS[1], 'since') or '')
if not heard or not since or now < heard or now - heard > tonumber(ARGV[1]) or now - since < tonumber(ARGV[2]) then
  return {}
end
local alive = {}
for index = 2, #KEYS do
  alive[index - 1] = redis.call('EXISTS', KEYS[index])
end
return alive
