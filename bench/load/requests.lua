-- wrk ... -s requests.lua URL -- DEPTH BODY PATHS
--
-- DEPTH requests in one write; a body of BODY bytes each; to /1 ... /PATHS in
-- random order, or to / when PATHS is 0.
local threads = 0

setup = function(thread)
   threads = threads + 1
   thread:set("seed", threads)
end

init = function(args)
   local depth, size, paths = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
   if size > 0 then
      wrk.method = "POST"
      wrk.body = string.rep("x", size)
   end
   if paths == 0 then
      local batch = string.rep(wrk.format(), depth)
      request = function() return batch end
      return
   end
   -- The rest of the request is made once: wrk's own format is slow.
   local first, rest = wrk.format(nil, "/@"):match("^(.-)@(.*)$")
   math.randomseed(os.time() + seed)
   request = function() return first .. math.random(paths) .. rest end
end
