# The same bytes from any folder, by any path, in any locale.
mpgen specs/mlp.lua --mesh dp=2,tp=2,pp=2 -o one
mkdir -p far/away
(cd far/away && LC_ALL=de_DE.UTF-8 TZ=Asia/Tokyo HOME=/ mpgen "$(readlink -f ../../specs)/mlp.lua" --mesh dp=2,tp=2,pp=2 -o "$(readlink -f ../..)/two")
(cd far && cp ../specs/mlp.lua . && mpgen mlp.lua --mesh dp=2,tp=2,pp=2 -o three)
same one two
same one far/three
# and mpgen may be moved alone
cp "$(command -v mpgen)" far/moved
far/moved specs/mlp.lua --mesh dp=2,tp=2,pp=2 -o four
same one four
grep -rlE "$PWD|$(hostname)" one || echo "no file names this folder or this machine"
