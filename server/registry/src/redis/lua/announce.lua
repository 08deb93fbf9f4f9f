-- KEYS sessions, presence, and its stream if it has one. ARGV resource, session, instance, number of the change, record,
-- presence ('' none), expiry, whether it is written also where it is there already.
-- Writes a session where there is none, or where it is this one. Returns 0 another session's, 1 it was there, 2 written.
local there = readable(field(KEYS[1], ARGV[1]))
if there and not is(there, ARGV[2], ARGV[3]) then
  return 0
end
local result, change, expiry, always = 1, tonumber(ARGV[4]), tonumber(ARGV[7]), ARGV[8] == '1'
local before = there and changed(there) or -1
if before < change and (not there or always or string.sub(there, 34) ~= string.sub(ARGV[5], 34)) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
  result = 2
end
local presence = field(KEYS[2], ARGV[1])
local presence_before = presence_changed(presence, ARGV[2])
if before < change and presence_before < change then
  if ARGV[6] == '' then
    if presence then
      redis.call('HDEL', KEYS[2], ARGV[1])
    end
  elseif presence_before < 0 or always or string.sub(presence, 26) ~= string.sub(ARGV[6], 26) then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[6])
    result = 2
  end
end
keep(KEYS[1], expiry)
keep(KEYS[2], expiry)
if KEYS[3] and field(KEYS[3], 'state') ~= 'ended' then
  keep(KEYS[3], expiry)
end
return result
