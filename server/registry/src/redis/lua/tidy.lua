-- KEYS index. ARGV account, number, account, number… Removes accounts that were not entered again after that number.
for index = 1, #ARGV, 2 do
  local entered = call('ZSCORE', KEYS[1], ARGV[index])
  if entered and tonumber(entered) <= tonumber(ARGV[index + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return 1
