require "modules.cycle"
