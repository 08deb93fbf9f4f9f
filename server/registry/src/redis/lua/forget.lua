-- KEYS lease, duty, instances. ARGV instance. Forgets a dead instance, and not one that has come back.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('DEL', KEYS[2])
call('SREM', KEYS[3], ARGV[1])
return 1
