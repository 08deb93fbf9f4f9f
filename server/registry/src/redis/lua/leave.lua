-- KEYS lease, instances. ARGV instance, whether it has left nothing behind. Gives the lease up.
redis.call('DEL', KEYS[1])
if ARGV[2] == '1' then
  call('SREM', KEYS[2], ARGV[1])
end
return 1
