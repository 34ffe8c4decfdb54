# The main job on the embedded dataset: tailor, predict with the methods that learn nothing, train EOP-Net, predict, score.
set -eu
out="${1:-demo-run}"
manifest="$out/demo_fold1.json"

oshp-tailor demo --fold 1 --out "$out"
for method in background class-prior copy-support; do
  oshp-predict "$method" --manifest "$manifest" --way k -o "$out/$method"
done
oshp-train --preset quick --manifest "$manifest" -o "$out/train"
oshp-predict "$out/train/best.safetensors" --manifest "$manifest" -o "$out/eopnet"
oshp-score "$out/eopnet" --manifest "$manifest" --out "$out/result" --sheet "$out/sheet.png" \
  --floor "$out/background" --floor "$out/class-prior" --floor "$out/copy-support" --report "$out/report.html"
oshp-score "$out/copy-support" "$out/eopnet" --manifest "$manifest" | tail -n 60

echo "Now open $out/report.html in a browser; $out/sheet.png and $out/result/result.json lie beside it"
