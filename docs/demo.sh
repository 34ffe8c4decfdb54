# The main job on the embedded dataset: tailor, predict with the methods that learn nothing, train our method, predict, score.
set -eu
out="${1:-demo-run}"
manifest="$out/demo_fold1.json"

oshp-tailor demo --fold 1 --out "$out"
for method in background class-prior copy-support; do
  oshp-predict "$method" --manifest "$manifest" --way k -o "$out/$method"
done
oshp-train --preset quick --method eopnet-fg --manifest "$manifest" -o "$out/train"
oshp-predict "$out/train/best.safetensors" --manifest "$manifest" --way k -o "$out/eopnet-fg"
oshp-score "$out/copy-support" "$out/eopnet-fg" --manifest "$manifest" --way k | tail -n 40
oshp-score "$out/eopnet-fg" --manifest "$manifest" --out "$out/result" --sheet "$out/sheet.png" \
  --floor "$out/background" --floor "$out/class-prior" --floor "$out/copy-support" --report "$out/report.html"

echo "Now look at $out/sheet.png: supports, their masks, queries, truth and what our method made of them, best to worst."
echo "$out/report.html explains the figures in a browser; $out/result/result.json holds them."
